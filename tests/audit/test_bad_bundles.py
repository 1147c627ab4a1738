"""Bundles that are truncated, reordered, swapped, oversized or hostile: each is named, and none is called verified."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.audit import bundle_files
from backend.audit.bundle_format import Unreadable, read_personal, read_public
from backend.audit.statements import S

from .settled import Settled, details, outcomes

BATCH, SLOT = 1, 3
PUBLIC = f"{BATCH}/public.json"
PERSONAL = f"{BATCH}/personal/{SLOT}.json"


def canonical(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """The part with a field changed, written canonically."""

    def make(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return canonical(value)

    return make


def reordered(data: bytes) -> bytes:
    """The same values with the names in another order."""
    return json.dumps(dict(reversed(json.loads(data).items())), separators=(",", ":")).encode()


SPOILED: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "truncated": (PUBLIC, lambda data: data[: len(data) // 2], "not JSON"),
    "empty": (PUBLIC, lambda data: b"", "not JSON"),
    "reordered names": (PUBLIC, reordered, "not canonical"),
    "a name twice": (PUBLIC, lambda data: data[:-1] + b',"chain_id":1}', "not canonical"),
    "deeply nested": (PUBLIC, lambda data: b"[" * 100_000 + b"]" * 100_000, "not JSON"),
    "endless number": (PUBLIC, lambda data: b'{"a":' + b"9" * 10_000 + b"}", "not JSON"),
    "not a number": (PUBLIC, lambda data: b'{"a":NaN}', "not JSON"),
    "no object": (PUBLIC, lambda data: b"[]", "no object"),
    "another format": (PUBLIC, edited(lambda v: v.update(format="x")), "format"),
    "a field missing": (PUBLIC, edited(lambda v: v.pop("prices")), "prices is missing"),
    "a field's type": (PUBLIC, edited(lambda v: v.update(trade_leaves=3)), "trade_leaves"),
    "slots that are none": (
        PUBLIC, edited(lambda v: v["personal_hashes"].update({"-1": "0x" + "00" * 32})), "no slot"
    ),
    "another community": (PUBLIC, edited(lambda v: v.update(clearing_house="0x" + "11" * 20)), "clearing_house"),
    "another tariff": (
        PUBLIC, edited(lambda v: v["tariff"].update(share_millionths=1)), "shareMillionths"
    ),
    "tariff that joins nothing": (
        PUBLIC, edited(lambda v: v["tariff"]["network"]["edges"][0].update({"to": "nowhere"})), "not there"
    ),
    "personal: truncated": (PERSONAL, lambda data: data[:-9], "altered"),
    "personal: readings cut": (
        PERSONAL, edited(lambda v: v.update(readings=v["readings"][:-2])), "altered"
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_part_is_named_and_never_verified(
    settled: Settled, bundles: Path, how: str
) -> None:
    name, spoil, word = SPOILED[how]
    (bundles / name).write_bytes(spoil((bundles / name).read_bytes()))
    verdict = settled.verdict(bundles)
    assert verdict.periods[0].verdict == "failed"
    assert word in details(verdict)
    assert verdict.verdict == "failed"


def test_bundles_of_two_batches_swapped(settled: Settled, bundles: Path) -> None:
    (bundles / "1").rename(bundles / "aside")
    (bundles / "2").rename(bundles / "1")
    (bundles / "aside").rename(bundles / "2")
    verdict = settled.verdict(bundles)
    assert [period.verdict for period in verdict.periods[:2]] == ["failed"] * 2
    assert {S.BUNDLE_NAMED, S.SAME_AS_CHAIN, S.OF_THIS_BATCH} <= outcomes(verdict, False)


def test_trades_reordered(settled: Settled, bundles: Path) -> None:
    data = {n: json.loads((bundles / str(n) / "public.json").read_bytes()) for n in range(1, 5)}
    number, public = max(data.items(), key=lambda item: len(item[1]["trade_leaves"]))
    assert len(public["trade_leaves"]) > 1
    public["trade_leaves"].reverse()
    (bundles / str(number) / "public.json").write_bytes(canonical(public))
    verdict = settled.verdict(bundles)
    assert {S.BUNDLE_NAMED, S.TRADES_ROOT, S.TRADES_SHOWN} <= outcomes(verdict, False)


def test_two_members_parts_swapped(settled: Settled, bundles: Path) -> None:
    folder = bundles / "1" / "personal"
    one, other = (folder / "3.json").read_bytes(), (folder / "4.json").read_bytes()
    (folder / "3.json").write_bytes(other)
    (folder / "4.json").write_bytes(one)
    verdict = settled.verdict(bundles)
    assert verdict.periods[0].verdict == "failed"
    assert "slots 3, 4" in details(verdict)


def test_a_part_too_large_is_not_read(
    settled: Settled, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_files, "PERSONAL_LIMIT_BYTES", 100)
    verdict = settled.verdict(bundles)
    assert {period.verdict for period in verdict.periods} == {"incomplete"}
    assert "more than 100; it was not read" in details(verdict)
    monkeypatch.setattr(bundle_files, "PUBLIC_LIMIT_BYTES", 100)
    assert {period.level for period in settled.verdict(bundles).periods} == {"chain"}


def test_a_folder_where_a_file_should_be(settled: Settled, bundles: Path) -> None:
    (bundles / PUBLIC).unlink()
    (bundles / PUBLIC).mkdir()
    assert settled.verdict(bundles).periods[0].verdict == "incomplete"


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150
)
@given(source=st.randoms(use_true_random=False))
def test_whatever_bytes_are_changed_the_reader_answers_with_its_own_error(
    settled: Settled, source: Any
) -> None:
    for name, read in ((PUBLIC, read_public), (PERSONAL, read_personal)):
        data = bytearray((settled.folder / name).read_bytes())
        for _ in range(source.randrange(1, 4)):
            at = source.randrange(len(data))
            if source.random() < 0.3:
                del data[at : at + source.randrange(1, 40)]
            else:
                data[at] = source.randrange(256)
        try:
            read(bytes(data))
        except Unreadable:
            continue


def test_a_bundle_from_another_world_s_folder(settled: Settled, bundles: Path) -> None:
    shutil.rmtree(bundles / "1")
    assert settled.verdict(bundles).verdict == "incomplete"
