"""n signers as processes: they agree, differ, die, sleep and change keys, and k of n still make a report."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import Result
from typer.testing import CliRunner

from backend.cli import app
from backend.domain.errors import QuorumNotReached, UnknownReference
from backend.domain.intervals import Period
from backend.domain.readings import Quality
from backend.settlement.encoding import meter_reading_hash, typed_data_digest
from backend.settlement.trees import PositionalTree
from oracle.peers import SignerClient, SignerFailed
from oracle.signing import address_of, recover, sign_reading, sign_retraction
from oracle.wire import pack_all
from tests.support.community import PAPER
from tests.support.oracle import (
    PASSWORD,
    SLOTS,
    TOKEN,
    Signer,
    assembly,
    day_of,
    energy_wh,
    key,
    packed,
    past_period,
    readings,
    running,
    signer_addresses,
    write_keystore,
)

# Later tests look at what earlier ones did to the same signers.
pytestmark = pytest.mark.xdist_group("signers")


@pytest.fixture(scope="module")
def signers(
    new_store: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Signer]]:
    """Three of them, two needed; tests use a day each."""
    with running(tmp_path_factory.mktemp("signers"), new_store=new_store) as started:
        yield started


def without_one(period: Period) -> bytes:
    """A day's readings but one of slot 3, so that two of its intervals have no energy."""
    return packed(period).replace(pack_all(readings(period, 3)[20:21]), b"")


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


class TestAgreement:
    def test_they_agree_and_a_member_checks_its_receipt_offline(
        self, signers: list[Signer], tmp_path: Path
    ) -> None:
        period = past_period(3)
        for signer in signers:
            assert signer.send(packed(period))["refused"] == []
        found = assembly(signers).report(period.number)
        assert found.disagreements == ()
        assert found.failures == {}
        assert list(found.signers) == sorted(found.signers, key=lambda item: int(item, 16))
        digest = typed_data_digest(PAPER.domain, found.report.struct_hash())
        assert [recover(digest, item) for item in found.signatures] == list(found.signers)
        assert set(found.signers) <= set(signer_addresses())
        for slot in SLOTS:
            values = found.slots[slot].readings()
            assert {item.quality for item in values} == {Quality.MEASURED}
            assert [(item.import_wh, item.export_wh) for item in values] == [
                energy_wh(slot, period.first_interval + n) for n in range(96)
            ]
        members = signers[0].config.members(period.number)
        leaves = {item.member.slot: item.leaf() for item in found.member_periods(members)}
        assert PositionalTree(leaves).root == found.report.readings_root
        with pytest.raises(UnknownReference):
            found.member_periods(members[1:])
        day = day_of(period)
        done = command(
            "oracle", "report", str(signers[0].path), "--day", day, "--receipts", str(tmp_path)
        )
        assert done.exit_code == 0, done.output
        path = tmp_path / str(period.number) / "4.json"
        checked = command("verify-reading", str(path), "--json")
        assert checked.exit_code == 0, checked.stdout
        verdict = json.loads(checked.stdout)
        assert verdict["right"]
        assert verdict["signed_by_the_meter_itself"]
        assert verdict["import_wh"] == sum(
            energy_wh(4, period.first_interval + n)[0] for n in range(96)
        )
        assert verdict["report_hash"] == "0x" + found.report.struct_hash().hex()

    def test_a_reading_that_one_of_them_lacks_is_passed_on(self, signers: list[Signer]) -> None:
        period = past_period(4)
        everything = packed(period)
        signers[0].send(everything[: 118 * 100])
        signers[1].send(everything[118 * 50 :])
        found = assembly(signers).report(period.number)
        assert found.disagreements == ()
        assert all(
            item.quality is Quality.MEASURED
            for slot in SLOTS
            for item in found.slots[slot].readings()
        )

    def test_a_contradiction_counts_for_nobody_and_a_retraction_mends_it(
        self, signers: list[Signer]
    ) -> None:
        period = past_period(5)
        wrong = replace(readings(period, 3)[10].reading, import_register_wh=1)
        for signer in signers:
            signer.send(packed(period))
        # Only one signer hears of it before the report is put together.
        signers[2].send(pack_all([sign_reading(key("meter", 3), PAPER.domain, wrong)]))
        draft = assembly(signers[2:])._draft(signers[2].client, period.number, 0)
        assembly(signers).exchange(period.number)
        for signer in signers:
            again = assembly([signer])._draft(signer.client, period.number, 0)
            assert again.report == draft.report
        body = {
            "meter": wrong.meter,
            "reading_hash": meter_reading_hash(wrong).hex(),
            "signature": sign_retraction(key("meter", 3), PAPER.domain, wrong).hex(),
        }
        signers[1].client.post("/retractions", json=body)
        found = assembly(signers).report(period.number)
        assert found.disagreements == ()
        assert {item.quality for item in found.slots[3].readings()} == {Quality.MEASURED}


class TestDisagreement:
    def test_a_signer_that_finds_something_else_is_named_with_slot_and_interval(
        self, signers: list[Signer], new_store: Callable[[], str]
    ) -> None:
        period = past_period(6)
        for signer in signers:
            signer.send(packed(period))
        odd = Signer(signers[2].folder.parent / "odd", 2)
        odd.write(signer_addresses(), store=new_store())
        members = json.loads(odd.path.read_text())["members"]
        # Its fuse lets nothing above 106 Wh pass, so it finds some intervals of slot 5 missing.
        members[2]["fuse_limit_wh"] = 106
        odd.change(members=members)
        odd.start()
        odd.wait()
        try:
            odd.send(packed(period))
            found = assembly([*signers[:2], odd]).report(period.number)
        finally:
            odd.stop()
        (difference,) = found.disagreements
        assert difference.signer_url == odd.url
        day = range(period.first_interval, period.first_interval + 96)
        expected = tuple(interval for interval in day if energy_wh(5, interval)[0] > 106)
        assert difference.slots == {5: expected}
        assert set(found.signers) == set(signer_addresses()[:2])

    def test_without_a_quorum_nobody_has_signed_and_the_message_says_who_differs(
        self, signers: list[Signer], new_store: Callable[[], str]
    ) -> None:
        period = past_period(8)
        early = without_one(period)
        odd = Signer(signers[2].folder.parent / "odd-again", 1)
        odd.write(signer_addresses(), store=new_store(), substitution={"rules": ["zero"]})
        odd.start()
        odd.wait()
        try:
            for signer in (signers[0], odd):
                signer.send(early)
            with pytest.raises(QuorumNotReached) as raised:
                assembly([signers[0], odd]).report(period.number)
        finally:
            odd.stop()
        assert "differs: slot 3 in 2 intervals" in raised.value.message
        # Nobody has signed, so the report can still be made.
        found = assembly(signers).report(period.number)
        assert [n for n, item in enumerate(found.slots[3].readings()) if item.quality] == [19, 20]


class TestFailures:
    def test_one_is_down_and_one_never_answers(self, signers: list[Signer]) -> None:
        period = past_period(9)
        for signer in signers:
            signer.send(packed(period))
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            sleeping = SignerClient(f"http://127.0.0.1:{silent.getsockname()[1]}", TOKEN, 6)
            nobody = SignerClient("http://127.0.0.1:1", TOKEN, 6)
            made = assembly(signers[:2], patience_seconds=3)
            made.clients = [sleeping, nobody, *made.clients]
            found = made.report(period.number)
        assert len(found.signatures) == 2
        assert "within 3 s" in found.failures[sleeping.url]
        assert "does not answer" in found.failures[nobody.url]

    def test_too_few_are_left(self, signers: list[Signer]) -> None:
        made = assembly(signers[:1], patience_seconds=5)
        made.clients = [*made.clients, SignerClient("http://127.0.0.1:1", TOKEN, 2)]
        with pytest.raises(QuorumNotReached, match="does not answer"):
            made.report(past_period(3).number)

    def test_a_stranger_in_the_place_of_a_signer(
        self, signers: list[Signer], new_store: Callable[[], str], tmp_path: Path
    ) -> None:
        """A key that is not of the committee signs nothing, and says so."""
        period = past_period(10)
        stranger = Signer(tmp_path / "stranger", 77)
        stranger.write(signer_addresses(), store=new_store())
        stranger.start()
        stranger.wait()
        try:
            for signer in (*signers, stranger):
                signer.send(packed(period))
            found = assembly([stranger, *signers]).report(period.number)
        finally:
            stranger.stop()
        assert "none of this signer's keys" in found.failures[stranger.url]
        assert len(found.signatures) == 2

    def test_killed_and_started_again_it_gives_the_same_signature(
        self, signers: list[Signer]
    ) -> None:
        period = past_period(11)
        for signer in signers[:2]:
            signer.send(packed(period))
        first = assembly(signers[:2]).report(period.number)
        signers[1].kill()
        signers[1].start()
        signers[1].wait()
        again = assembly(signers[:2]).report(period.number)
        assert again.signatures == first.signatures
        assert again.report == first.report


class TestVersions:
    def test_a_late_reading_makes_a_new_version_and_leaves_the_old_one(
        self, signers: list[Signer]
    ) -> None:
        period = past_period(12)
        late = pack_all(readings(period, 6)[50:52])
        early = packed(period).replace(late, b"")
        for signer in signers:
            signer.send(early)
        first = assembly(signers).report(period.number)
        missing = [n for n, item in enumerate(first.slots[6].readings()) if item.quality]
        assert missing == [49, 50, 51]
        with pytest.raises(QuorumNotReached, match="would change nothing"):
            assembly(signers).report(period.number, 1)
        for signer in signers:
            signer.send(late)
        # What was signed stays what it was, for whoever was killed before it was stored.
        again = assembly(signers).report(period.number, 0)
        assert (again.report, again.signatures) == (first.report, first.signatures)
        second = assembly(signers).report(period.number, 1)
        assert second.report.version == 1
        changed = {
            (slot, n)
            for slot in SLOTS
            for n, (a, b) in enumerate(
                zip(first.slots[slot].readings(), second.slots[slot].readings(), strict=True)
            )
            if a != b
        }
        assert changed == {(6, 49), (6, 50), (6, 51)}
        checked = command("oracle", "verify", str(signers[0].path), "--day", day_of(period))
        assert checked.exit_code == 0, checked.stdout

    def test_not_after_the_correction_window_nor_before_the_end(
        self, signers: list[Signer]
    ) -> None:
        for days, version, said in ((22, 1, "correction window"), (0, 0, "not over")):
            with pytest.raises(SignerFailed, match=said):
                signers[0].client.json(f"/periods/{past_period(days).number}/{version}/draft")


class TestRotation:
    def test_a_new_key_takes_over_while_requests_are_answered(self, signers: list[Signer]) -> None:
        old, new = past_period(14), past_period(13)
        for signer in signers:
            signer.send(packed(old) + packed(new))
        new_key = key("signer", 100)
        later = [address_of(new_key), *signer_addresses()[1:]]
        committees = [
            {"threshold": 2, "signers": signer_addresses()},
            {"from_period": new.number, "threshold": 3, "signers": later},
        ]
        failures: list[Any] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    requests.get(signers[0].url + "/health", timeout=5).raise_for_status()
                except requests.RequestException as error:
                    failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        write_keystore(signers[0].folder / "keys" / "second.json", new_key)
        for signer in signers:
            signer.change(committees=committees)
        committee = signers[0].config.committee(new.number)
        deadline = time.monotonic() + 30
        while True:
            made = assembly(signers)
            made.committee = committee
            try:
                found = made.report(new.number)
                break
            except QuorumNotReached:
                assert time.monotonic() < deadline, signers[0].log
        stop.set()
        asking.join()
        assert failures == []
        assert set(found.signers) == set(later)
        made = assembly(signers)
        made.committee = signers[0].config.committee(old.number)
        assert set(made.report(old.number).signers) <= set(signer_addresses())
        # A configuration that is wrong changes nothing.
        signers[0].change(committees=[])
        time.sleep(2.5)
        assert requests.get(signers[0].url + "/health", timeout=5).ok
        signers[0].change(committees=committees)
        assert '"configuration not taken over"' in signers[0].log


class TestSurface:
    def test_nothing_personal_without_the_token(self, signers: list[Signer]) -> None:
        url = signers[0].url
        number = past_period(3).number
        for method, path in (
            ("GET", f"/periods/{number}/0/draft"),
            ("GET", f"/periods/{number}/0/vectors?report=0x"),
            ("GET", f"/periods/{number}/digests"),
            ("GET", f"/periods/{number}/completeness"),
            ("POST", f"/periods/{number}/readings"),
            ("POST", f"/periods/{number}/0/confirm"),
            ("POST", "/readings"),
            ("GET", "/retractions"),
            ("POST", "/sources/smart-me"),
        ):
            for header in ({}, {"Authorization": "Bearer wrong"}):
                answer = requests.request(method, url + path, headers=header, json={}, timeout=10)
                assert answer.status_code == 401, path

    def test_what_is_wrong_is_told(self, signers: list[Signer]) -> None:
        number = past_period(3).number
        for path, body, status in (
            ("/readings", {"data": b"x"}, 422),
            (f"/periods/{number}/0/confirm", {"json": {"hash": "0x12"}}, 422),
            (f"/periods/{number}/0/confirm", {"json": {"hash": "0x" + "00" * 32}}, 409),
            (f"/periods/{number}/readings", {"json": {"meters": ["x"]}}, 422),
            ("/periods/99999999999999/readings", {"json": {"meters": []}}, 422),
            ("/sources/none", {"data": b""}, 404),
        ):
            with pytest.raises(SignerFailed, match=f"answers {status}"):
                signers[0].client.post(path, **body)

    def test_metrics(self, signers: list[Signer]) -> None:
        spoiled = bytearray(packed(past_period(3))[:118])
        spoiled[-2] ^= 1
        signers[0].send(bytes(spoiled))
        text = requests.get(signers[0].url + "/metrics", timeout=10).text
        assert "peerwatt_oracle_readings_received_total" in text
        assert 'peerwatt_oracle_readings_rejected_total{code="signer"}' in text
        assert 'peerwatt_oracle_completeness_ratio{intervals_ago="0"} 0.0' in text
        assert "peerwatt_oracle_newest_reading_age_seconds" in text

    def test_status_shows_what_is_missing_and_why(self, signers: list[Signer]) -> None:
        period = past_period(8)
        signers[0].send(without_one(period))
        path = str(signers[0].path)
        shown = command("oracle", "status", path, "--day", day_of(period), "--rejections", "5")
        assert shown.exit_code == 0, shown.output
        assert "·" in shown.stdout
        one = command("oracle", "status", path, "--day", day_of(period), "--meter", "3")
        assert "█" * 19 + "··" + "█" * 75 in one.stdout
        assert "04:45+00 to 05:15+00: " in one.stdout
        assert "slot 4" not in one.stdout
        every = command("oracle", "status", path, "--day", day_of(period), "--full")
        assert every.stdout.count("█" * 96) == 3
        data = json.loads(
            command("oracle", "status", path, "--day", day_of(period), "--json").stdout
        )
        assert data["values"] == {"measured": 4 * 96 - 2, "substituted": 0, "missing": 2}
        (lacking,) = [row for row in data["meters"] if row["reasons"]]
        assert lacking["slot"] == 3
        assert all("no register" in reason for reason in lacking["reasons"].values())

    def test_logs_are_lines_of_json_without_secrets_or_persons(self, signers: list[Signer]) -> None:
        """Last, so that everything above has been logged."""
        for signer in signers:
            lines = signer.log.splitlines()
            assert lines
            for line in lines:
                assert {"time", "level", "event"} <= set(json.loads(line))
            private = [PASSWORD, TOKEN, key("signer", signer.index).to_hex()[2:]]
            private += [address_of(key("meter", slot))[2:] for slot in SLOTS]
            private += [address_of(key("meter", slot))[2:].lower() for slot in SLOTS]
            assert [text for text in private if text in signer.log] == []
