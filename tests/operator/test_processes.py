"""The processes that deploy/compose.yml names, started directly: from readings to statements, on PostgreSQL and a real node."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from eth_account.messages import encode_defunct

from backend.operator.access import access_text
from backend.operator.doctor import examine
from tests.support import postgres
from tests.support.anvil import running_anvil
from tests.support.community import account
from tests.support.installation import SILENT_SLOT, Installation, command, installation
from tests.support.oracle import SLOTS

pytestmark = pytest.mark.xdist_group("installation")
DAYS = 2


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two days settled."""
    with (
        postgres.cluster() as cluster,
        running_anvil() as chain,
        installation(
            tmp_path_factory.mktemp("town"), chain, cluster.create("valley"), DAYS
        ) as made,
    ):
        for period in made.periods:
            made.publish_day(period)
            for signer in made.signers:
                made.send_day(signer, period)
        made.start()
        made.wait_until_stated(DAYS)
        yield made


def batches(made: Installation) -> list[dict[str, str]]:
    found: list[dict[str, str]] = requests.get(
        f"{made.url}/communities/valley/batches", timeout=10
    ).json()
    return found


def headers(made: Installation, slot: int, signer: int, issued_at: int) -> dict[str, str]:
    house = made.contracts.addresses["ClearingHouse"]
    text = access_text(made.web3.eth.chain_id, house, slot, issued_at)
    signed = account("wallet", signer).sign_message(encode_defunct(text=text))
    return {
        "X-Peerwatt-Issued-At": str(issued_at),
        "X-Peerwatt-Signature": "0x" + bytes(signed.signature).hex(),
    }


def test_it_is_healthy_ready_and_measured(running: Installation) -> None:
    assert requests.get(running.url + "/health", timeout=10).json() == {"status": "ok"}
    assert requests.get(running.url + "/ready", timeout=10).status_code == 200
    last = running.periods[-1].number
    wanted = f'peerwatt_coordinator_final_period{{community="valley"}} {last / 10**4:.4f}e+04'
    deadline = time.monotonic() + 60
    text = ""
    # Measured after each round of the cycle; what is final is seen before.
    while wanted not in text and time.monotonic() < deadline:
        text = requests.get(running.url + "/metrics", timeout=10).text
        time.sleep(0.2)
    assert wanted in text
    assert 'peerwatt_coordinator_leader{community="valley"} 1.0' in text
    assert 'peerwatt_coordinator_signers_answering{community="valley"} 3.0' in text


def test_the_independent_auditor_agrees(running: Installation, tmp_path: Path) -> None:
    command("coordinator", "export", str(running.config), str(tmp_path / "bundles"), "--personal")
    verdict = command(
        "audit",
        str(running.folder),
        *("--rpc", running.chain_url),
        *("--community", running.contracts.addresses["ClearingHouse"]),
        *("--bundle", str(tmp_path / "bundles")),
        code=None,
    )
    assert verdict["verdict"] == "verified", failed_checks(verdict)


def failed_checks(data: Any) -> list[Any]:
    """Whatever says of itself that it did not pass, however deep."""
    if isinstance(data, list):
        return [item for part in data for item in failed_checks(part)]
    if not isinstance(data, dict):
        return []
    if data.get("passed") is False:
        return [data]
    return [item for part in data.values() for item in failed_checks(part)]


def test_a_member_sees_its_own_data_and_nobody_elses(running: Installation) -> None:
    bundle = batches(running)[0]["bundle_hash"]
    base = f"{running.url}/communities/valley/bundles/{bundle}"
    public = requests.get(base, timeout=10)
    assert public.status_code == 200
    assert "immutable" in public.headers["Cache-Control"]
    now = int(time.time())
    for kind in ("personal", "statement"):
        own = requests.get(f"{base}/{kind}/3", headers=headers(running, 3, 3, now), timeout=10)
        assert own.status_code == 200
        assert own.json()["slot"] == 3
        for wrong in (
            {},
            headers(running, 3, 4, now),
            headers(running, 4, 4, now),
            headers(running, 3, 3, now - 3600),
            headers(running, 3, 3, now + 3600),
            {"X-Peerwatt-Issued-At": "x", "X-Peerwatt-Signature": "0x00"},
        ):
            answer = requests.get(f"{base}/{kind}/3", headers=wrong, timeout=10)
            assert answer.status_code == 401
    assert requests.get(f"{base[:-4]}0000", timeout=10).status_code == 404


def test_what_the_silent_meter_published_is_settled(running: Installation) -> None:
    bundle = batches(running)[-1]["bundle_hash"]
    now = int(time.time())
    statement = requests.get(
        f"{running.url}/communities/valley/bundles/{bundle}/statement/{SILENT_SLOT}",
        headers=headers(running, SILENT_SLOT, SILENT_SLOT, now),
        timeout=10,
    ).json()
    assert statement["missing_intervals"] == 0
    assert statement["import_wh"] > 0
    assert statement["saved_nano"] >= 0


def test_a_preview_of_a_past_day_is_what_was_settled(running: Installation) -> None:
    day = running.periods[0].day.isoformat()
    found = command("coordinator", "preview", str(running.config), "--day", day)
    assert (found["final"], len(found["intervals"])) == (False, 96)
    assert sum(item["missing"] for item in found["intervals"]) == 0
    bundle, now = batches(running)[0]["bundle_hash"], int(time.time())
    base = f"{running.url}/communities/valley/bundles/{bundle}/statement"
    bought = sum(
        requests.get(
            f"{base}/{slot}", headers=headers(running, slot, slot, now), timeout=10
        ).json()["bought_wh"]
        for slot in SLOTS
    )
    assert sum(item["traded_wh"] for item in found["intervals"]) == bought


def test_doctor_finds_nothing_wrong(running: Installation) -> None:
    findings = command("doctor", str(running.config))
    assert {item["what"] for item in findings} >= {
        "keys", "chain", "clock", "contracts", "tariff", "members", "balance", "bond", "database",
        "bundles", "disk", "signers", "readings",
    }  # fmt: skip
    assert [item for item in findings if item["level"] == "wrong"] == []


def test_doctor_says_what_to_mend(running: Installation) -> None:
    """One thing after the other is broken, and found."""
    good = json.loads(running.config.read_text())
    broken = running.folder / "broken.json"
    (running.folder / "other").write_text("another password")
    (running.folder / "other").chmod(0o644)
    (running.folder / "nowhere").write_text("http://127.0.0.1:1")
    (running.folder / "no-database").write_text("postgresql://x@/x?host=/nowhere")
    tariff = good["communities"][0]["tariffs"][0] | {"share_millionths": 1}
    dear = good["communities"][0]["members"][0] | {"account": account("dso").address}
    cases = (
        ({"password_file": "other"}, "keys", "keystore"),
        ({"rpc_file": "nowhere"}, "chain", "node"),
        ({"address_book": "founding.json"}, "contracts", "peerwatt deploy"),
        ({"tariffs": [tariff]}, "tariff", "announce"),
        ({"members": [dear]}, "members", "registrar"),
        ({"database_file": "no-database"}, "database", "repeat"),
        ({"bundles": {"folder": "founding.json"}}, "bundles", "writable"),
        ({"signers": [{"url": "http://127.0.0.1:1", "token_file": "token"}]}, "signers", "start"),
    )
    for changes, what, mend in cases:
        broken.write_text(json.dumps(good | {"communities": [good["communities"][0] | changes]}))
        found = {item.what: item for item in examine(broken) if item.level == "wrong"}
        assert what in found, (changes, found)
        assert mend in found[what].mend, found[what]
        assert "another password" not in str(found)
    broken.write_text("{}")
    (only,) = examine(broken)
    assert (only.what, only.level) == ("configuration", "wrong")


def test_a_second_process_stands_by(running: Installation) -> None:
    refused = command("coordinator", "finalise", str(running.config), code=1)
    assert refused["error"]["code"] == "operator.leadership_lost"


def test_a_trace_leads_from_the_reading_to_the_statement(running: Installation) -> None:
    first = batches(running)[0]
    for signer in running.signers:
        written = [json.loads(line) for line in signer.log.splitlines() if line.startswith("{")]
        events = [item["event"] for item in written if item.get("trace") == first["trace"]]
        assert events[0] == "first readings"
        assert set(events[1:]) <= {"report signed"}
    assert "report signed" in "".join(signer.log for signer in running.signers)
    lines = [json.loads(line) for line in running.log.splitlines() if line.startswith("{")]
    states = [item["state"] for item in lines if item.get("trace") == first["trace"]]
    assert states[:3] == ["collecting", "collected", "prepared"]
    assert states[-1] == "stated"
    # No member, key or password in it.
    for slot in SLOTS:
        assert account("wallet", slot).address not in running.log


def test_deploying_again_changes_nothing(running: Installation) -> None:
    before = running.web3.eth.get_transaction_count(account("installation deployer").address)
    again = running.deploy()
    assert again["done"] == 0
    assert again["done_before"] > 30
    after = running.web3.eth.get_transaction_count(account("installation deployer").address)
    assert after == before


def test_it_stops_in_order(running: Installation) -> None:
    """Last, because it does."""
    assert running.stop() == 0
    assert '"event": "stopped"' in running.log
    running.process = None
