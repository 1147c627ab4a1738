"""The auditor agrees with an honest day to the nano, and finds whatever is changed in the bundle or missing from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from eth_utils.abi import function_abi_to_4byte_selector
from eth_utils.crypto import keccak
from web3 import Web3

from backend.audit.auditor import audit
from backend.audit.bundle_files import BundleFiles
from backend.audit.command import AuditOptions, audit_folder, repeat_audit, run_audit
from backend.audit.verdict import AuditVerdict
from backend.chain.client import replay
from backend.demo.day import DemoOptions, Progress, run_demo
from backend.domain.errors import MalformedInput, NodeUnreachable
from contracts.artifact import artifact

# One worker runs the demonstration once for all of them.
pytestmark = pytest.mark.xdist_group("audited demonstration")

PERIODS = (16981, 16982)
FIRST_BATCH = 1
MEMBER_SLOT = 3


@pytest.fixture(scope="module")
def honest_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of six households."""
    output = tmp_path_factory.mktemp("demo")
    run_demo(
        DemoOptions(
            members=6,
            days=2,
            first_day=date(2016, 6, 29),
            seed=1,
            chain_url=None,
            solver="highs",
            output=output,
        ),
        Progress(),
    )
    return output


@pytest.fixture(scope="module")
def chain(honest_run: Path) -> Web3:
    """The run's chain, executed again once for all tests that change bundles only."""
    return replay(json.loads((honest_run / "chain.json").read_bytes()))


@pytest.fixture
def folder(honest_run: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(honest_run, tmp_path / "demo"))


def verdict_on(folder: Path, **options: Any) -> AuditVerdict:
    given = {"rpc": None, "clearing_house": None, "bundles": None} | options
    return audit_folder(folder, progress=lambda line: None, **given)


def verdict_on_bundles(chain: Web3, folder: Path) -> AuditVerdict:
    book = json.loads((folder / "address-book.json").read_bytes())
    return audit(chain, book["contracts"]["ClearingHouse"], BundleFiles(folder / "bundles"))


def failed(verdict: AuditVerdict) -> set[str]:
    return {check.what for check in verdict.all_checks if check.passed is False}


def test_an_honest_run_is_verified(folder: Path) -> None:
    verdict = verdict_on(folder)
    assert verdict.verdict == "verified"
    assert [period.period for period in verdict.periods] == list(PERIODS)
    assert all(period.final for period in verdict.periods)
    assert len(verdict.voided) == 1
    assert not verdict.frozen
    assert sum(check.count for check in verdict.all_checks) > 1000


def test_without_bundles_the_chain_is_checked_and_the_verdict_says_incomplete(
    chain: Web3, folder: Path
) -> None:
    shutil.rmtree(folder / "bundles")
    verdict = verdict_on_bundles(chain, folder)
    assert verdict.verdict == "incomplete"
    assert failed(verdict) == set()


def test_a_missing_personal_part_is_never_verified(chain: Web3, folder: Path) -> None:
    (folder / "bundles" / str(FIRST_BATCH) / "personal" / f"{MEMBER_SLOT}.json").unlink()
    verdict = verdict_on_bundles(chain, folder)
    assert verdict.periods[0].verdict == "incomplete"
    assert verdict.verdict != "verified"


def respell(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(path.read_bytes())
    change(data)
    path.write_bytes(json.dumps(data, sort_keys=True, separators=(",", ":")).encode())


def forge(folder: Path, slot: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a personal part and its hash in the public part, as a coordinator would who rewrites the bundle."""
    period = folder / "bundles" / str(FIRST_BATCH)
    personal = period / "personal" / f"{slot}.json"
    respell(personal, change)
    digest = "0x" + keccak(personal.read_bytes()).hex()
    respell(
        period / "public.json", lambda public: public["personal_hashes"].update({str(slot): digest})
    )


def test_an_altered_personal_part_is_noticed(chain: Web3, folder: Path) -> None:
    path = folder / "bundles" / str(FIRST_BATCH) / "personal" / f"{MEMBER_SLOT}.json"
    respell(path, lambda part: part.update(amount_nano=part["amount_nano"] + 1))
    assert "every personal part is unaltered" in failed(verdict_on_bundles(chain, folder))


def change_reading(part: dict[str, Any]) -> None:
    data = bytearray.fromhex(part["readings"][2:])
    data[6] ^= 1
    part["readings"] = "0x" + data.hex()


def change_trade(part: dict[str, Any]) -> None:
    part["trades"][0]["energy_wh"] += 1


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            lambda part: part.update(amount_nano=part["amount_nano"] - 1),
            "every account's amount is what readings, prices and certificates say, to the nano",
        ),
        (
            lambda part: part.update(cumulative_nano=part["cumulative_nano"] + 1),
            "every balance continues the one before",
        ),
        (
            lambda part: part.update(ledger_salt="0x" + "00" * 32),
            "the ledger tree holds exactly these accounts",
        ),
        (change_reading, "the members' readings are the ones the oracle signed"),
        (change_trade, "sellers and buyers are shown the same trades"),
    ],
    ids=["amount", "cumulative", "salt", "reading", "trade"],
)
def test_a_forged_bundle_contradicts_the_chain(
    chain: Web3, folder: Path, change: Callable[[dict[str, Any]], None], finding: str
) -> None:
    forge(folder, MEMBER_SLOT, change)
    found = failed(verdict_on_bundles(chain, folder))
    assert finding in found
    assert "the bundle is the one the batch names" in found


def test_another_chain_is_not_taken_for_this_one(folder: Path) -> None:
    with pytest.raises(NodeUnreachable):
        verdict_on(folder, rpc="http://127.0.0.1:1")
    with pytest.raises(MalformedInput):
        verdict_on(folder, rpc="not-a-url")


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput) as raised:
        verdict_on(tmp_path)
    assert "peerwatt demo" in raised.value.remedy


def test_a_journal_that_was_cut_gives_no_verified_verdict(folder: Path) -> None:
    journal = json.loads((folder / "chain.json").read_text())
    abi = next(
        item for item in artifact("ClearingHouse")["abi"] if item.get("name") == "submitBatch"
    )
    selector = function_abi_to_4byte_selector(abi).hex()
    submissions = [
        n for n, entry in enumerate(journal) if selector in entry.get("transaction", "")[:300]
    ]
    (folder / "chain.json").write_text(json.dumps(journal[: submissions[-1]]))
    verdict = verdict_on(folder)
    assert [period.period for period in verdict.periods] == [PERIODS[0]]
    assert not verdict.periods[0].final


def test_the_demonstration_s_evidence_is_executed_again(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    first = run_audit(AuditOptions(folder, save_evidence=path), lambda line: None)
    again = repeat_audit(path, (), 1, lambda line: None).verdict
    assert again.verdict == first.verdict.verdict == "verified"
    assert again.periods == first.verdict.periods
