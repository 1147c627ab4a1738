"""What an audit says with how much at hand, and that it never says `verified` when something was missing."""

from __future__ import annotations

import contextlib
import json
import time
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from eth_account import Account

from backend.audit import bundle_files
from backend.audit.auditor import Scope
from backend.audit.bundle_files import NotShown, fetch_bundles
from backend.audit.chain_reader import ChainReader
from backend.audit.node import open_nodes
from backend.audit.statements import FULL, LINKED, PERSONAL, PUBLIC, S
from backend.domain.errors import MalformedInput, UnknownReference

from .honest import key_of
from .settled import Settled, outcomes, serving

MEMBER, OTHER = 3, 6


def test_with_everything_every_batch_is_verified(settled: Settled) -> None:
    verdict = settled.run().verdict
    assert verdict.verdict == "verified"
    assert [period.level for period in verdict.periods] == ["full"] * 4
    assert [period.version for period in verdict.periods] == [0, 0, 1, 0]
    assert [period.final for period in verdict.periods] == [True, True, False, False]
    assert outcomes(verdict, True) >= {*PUBLIC, *PERSONAL, *LINKED, *FULL}


def test_the_chain_alone_leaves_all_that_bundles_show_open_and_says_so(settled: Settled) -> None:
    verdict = settled.run(folder=Path("nowhere"), bundle=None).verdict
    assert verdict.verdict == "incomplete"
    assert {period.level for period in verdict.periods} == {"chain"}
    assert outcomes(verdict, None) >= {*PUBLIC, *PERSONAL, *LINKED, *FULL}
    assert outcomes(verdict, False) == set()
    for period in verdict.periods:
        assert all(check.detail for check in period.checks if check.passed is None)


def only_public(folder: Path) -> None:
    for path in folder.glob("*/personal/*.json"):
        path.unlink()


def test_the_public_part_shows_tariff_trades_and_certificates_but_nobody_s_bill(
    settled: Settled, bundles: Path
) -> None:
    only_public(bundles)
    verdict = settled.verdict(bundles)
    assert {period.level for period in verdict.periods} == {"public"}
    assert outcomes(verdict, True) >= set(PUBLIC)
    assert outcomes(verdict, None) >= {*PERSONAL, *LINKED, *FULL}
    assert verdict.verdict == "incomplete"


def test_a_member_checks_its_own_part_and_no_more(
    settled: Settled, bundles: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for number in range(1, 5):
        part = bundles / str(number) / "personal" / f"{MEMBER}.json"
        part.rename(own / f"{number}.json")
    only_public(bundles)
    verdict = settled.run(bundle=str(bundles), member=own).verdict
    assert {period.level for period in verdict.periods} == {"member"}
    assert outcomes(verdict, True) >= {*PUBLIC, *PERSONAL, *LINKED}
    assert outcomes(verdict, None) >= set(FULL)
    assert verdict.verdict == "incomplete"
    assert outcomes(verdict, False) == set()


def test_a_wallet_s_keystore_says_whose_part_is_meant(settled: Settled, tmp_path: Path) -> None:
    keystore = tmp_path / "wallet.json"
    key = key_of(f"wallet {MEMBER - 3}").key
    keystore.write_text(json.dumps(Account.encrypt(key, "secret", kdf="pbkdf2", iterations=2)))
    verdict = settled.run(member=keystore).verdict
    counts = {c.what: c.count for period in verdict.periods for c in period.checks}
    assert counts[S.LEDGER_PROOF] == 1
    stranger = tmp_path / "stranger.json"
    secret = Account.encrypt(b"\1" * 32, "secret", kdf="pbkdf2", iterations=2)
    stranger.write_text(json.dumps(secret))
    with pytest.raises(UnknownReference):
        settled.run(member=stranger)
    stranger.write_text("[1")
    with pytest.raises(MalformedInput):
        settled.run(member=stranger)


def test_a_range_of_periods_still_continues_the_balances_before_it(
    settled: Settled, bundles: Path
) -> None:
    last = settled.run(scope=Scope(first=16_002, last=16_002)).verdict
    assert [period.number for period in last.periods] == [4]
    assert last.verdict == "verified"
    # Without the batch before, nothing tells how a balance continues.
    for path in (bundles / "3" / "personal").iterdir():
        path.unlink()
    torn = settled.run(bundle=str(bundles), scope=Scope(first=16_002, last=16_002)).verdict
    assert S.CONTINUES in outcomes(torn, None)
    assert torn.verdict == "incomplete"


def test_several_processes_find_what_one_finds(settled: Settled) -> None:
    one = settled.run(scope=Scope(workers=1)).verdict.as_dict()
    assert settled.run(scope=Scope(workers=2)).verdict.as_dict() == one


def test_bundles_from_a_server(settled: Settled, bundles: Path) -> None:
    (bundles / "2" / "personal" / f"{OTHER}.json").unlink()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(bundles))

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with serving(Handler) as url:
        verdict = settled.run(bundle=url).verdict
    levels = {period.number: period.level for period in verdict.periods}
    assert levels == {1: "full", 2: "member", 3: "full", 4: "full"}
    reasons = {check.detail for check in verdict.periods[1].checks if check.passed is None}
    assert any("404" in reason for reason in reasons)
    assert verdict.verdict == "incomplete"


def test_a_server_that_does_not_answer_or_gives_too_much(
    settled: Settled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = ChainReader(open_nodes((settled.url,)), settled.community).standing_batches()[:1]
    stop = Event()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(settled.folder))

        def do_GET(self) -> None:
            if self.path.endswith("/3.json"):
                stop.wait(20)
                return
            super().do_GET()

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with serving(Handler) as url:
        files = fetch_bundles(url, batches, None, tmp_path, timeout_seconds=1)
        stop.set()
        files.personal(1, 2)
        for slot in (3, 4):  # whoever is not answered does not go on asking
            with pytest.raises(NotShown, match="does not answer: TimeoutError"):
                files.personal(1, slot)
        monkeypatch.setattr(bundle_files, "PUBLIC_LIMIT_BYTES", 100)
        files = fetch_bundles(url, batches, None, tmp_path / "other")
        with pytest.raises(NotShown, match="answers too much"):
            files.public(1)
    with pytest.raises(NotShown, match="does not answer: ConnectionRefusedError"):
        fetch_bundles(url, batches, None, tmp_path / "gone").public(1)


def test_a_server_that_drips_holds_nothing_up(settled: Settled, tmp_path: Path) -> None:
    """A byte now and then is no silence. What was there in time is kept, and not asked for again."""
    batches = ChainReader(open_nodes((settled.url,)), settled.community).standing_batches()[:1]
    stop, asked = Event(), list[str]()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(settled.folder))

        def do_GET(self) -> None:
            asked.append(self.path)
            if not self.path.endswith("/4.json") or stop.is_set():
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            with contextlib.suppress(OSError):
                while not stop.wait(0.05):
                    self.wfile.write(b" ")

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with serving(Handler) as url:
        began = time.monotonic()
        files = fetch_bundles(
            url, batches, None, tmp_path, timeout_seconds=30, deadline=time.monotonic() + 2
        )
        assert time.monotonic() - began < 20
        files.personal(1, 3)
        for slot in (4, 5):
            with pytest.raises(NotShown, match="does not answer: TimeoutError"):
                files.personal(1, slot)
        stop.set()
        asked.clear()
        files = fetch_bundles(url, batches, None, tmp_path)
        assert files.personal(1, 4) and files.personal(1, 5)
        assert "/1/personal/4.json" in asked
        assert not {"/1/public.json", "/1/personal/3.json"} & set(asked)
        # When the time is over, nothing more is asked for, and what is there is there.
        asked.clear()
        files = fetch_bundles(url, batches, None, tmp_path, deadline=time.monotonic())
        assert files.personal(1, 4) and not asked


def test_a_trade_book_that_is_hidden_does_not_hide_the_others(tmp_path: Path) -> None:
    """A member, whom nobody shows whole books, asks for one only, and then for its own trades."""
    asked: list[str] = []
    books = tmp_path / "shown" / "trade-books"
    for name in ("2.json", "3.json", "1/7.json", "3/7.json"):
        (books / name).parent.mkdir(parents=True, exist_ok=True)
        (books / name).write_text(name)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "shown"))

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with serving(Handler) as url:
        files = fetch_bundles(url, [], None, tmp_path / "all", books=[1, 2, 3])
        assert [files.book(first) for first in (2, 3)] == [b"2.json", b"3.json"]
        with pytest.raises(NotShown, match="404"):
            files.book(1)
        asked.clear()
        files = fetch_bundles(url, [], frozenset({7}), tmp_path / "own", books=[1, 2, 3])
        assert [files.own_trades(first, 7) for first in (1, 3)] == [b"1/7.json", b"3/7.json"]
        for first in (1, 2, 3):
            with pytest.raises(NotShown):
                files.book(first)
        assert len([path for path in asked if path.count("/") == 2]) == 1
