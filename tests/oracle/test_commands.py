"""Commands and files of an oracle: upload with row-level errors, receipts that were changed, keys and configurations that are wrong."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn
from click.testing import Result
from fastapi import FastAPI
from typer.testing import CliRunner

from backend.cli import app
from backend.domain.errors import InputError, MalformedInput, QuorumNotReached, ReportRefused
from backend.domain.readings import Quality
from backend.settlement.forward import ForwardTrade, with_trades
from oracle.assembly import AssembledReport, ReportedSlot
from oracle.collector import Collector, meter_address
from oracle.config import load_config, load_salts
from oracle.keystore import load_key, load_keys
from oracle.metrics import OracleMetrics
from oracle.node import OracleNode
from oracle.receipts import Receipt, check_receipt, explain, make_receipts
from oracle.run import SignerProcess, open_sources
from oracle.service import oracle_app
from oracle.signing import address_of, sign_reading, sign_report
from oracle.sources.smart_me import decode_push
from oracle.trade_books import TradedPeriod
from oracle.wire import pack, pack_all
from tests.support.broker import free_port
from tests.support.community import PAPER
from tests.support.oracle import (
    PASSWORD,
    SLOTS,
    TOKEN,
    Signer,
    day_of,
    key,
    packed,
    past_period,
    readings,
    signer_addresses,
    write_keystore,
)

PERIOD = past_period(3)
DATA = Path(__file__).parent / "data"


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@contextmanager
def serving(application: FastAPI) -> Iterator[str]:
    """A server in a thread; its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """A signer's folder; nothing runs."""
    made = Signer(tmp_path / "signer", 0)
    made.write(signer_addresses())
    return made


@pytest.fixture
def node(signer: Signer, store_url: str) -> OracleNode:
    """A signer in this process, on both kinds of store."""
    signer.change(store=store_url)
    return OracleNode.open(signer.config)


class TestNode:
    def test_the_same_on_both_stores(self, node: OracleNode) -> None:
        """With gaps, a stranger's reading, and everything out of order."""
        data = packed(PERIOD)
        records = [data[start : start + 118] for start in range(0, len(data), 118)]
        del records[30:33]
        node.intake.take(b"".join(reversed(records)))
        draft = node.draft(PERIOD.number, 0)
        found = {item.member.slot: item.readings for item in draft.member_periods}
        assert [n for n, item in enumerate(found[3]) if item.quality] == [29, 30, 31, 32]
        assert sum(item.quality for slot in (4, 5, 6) for item in found[slot]) == 0
        assert draft.rejected == 0
        node.store.close()

    def test_substitution_is_a_matter_of_the_configuration(
        self, signer: Signer, node: OracleNode
    ) -> None:
        week_ago = past_period(10)
        data = packed(PERIOD).replace(pack_all(readings(PERIOD, 3)[30:50]), b"")
        node.intake.take(data + pack_all(readings(week_ago, 3)))
        for rules, quality in (
            ([], Quality.MISSING),
            (["linear"], Quality.MISSING),
            (["linear", "weekday"], Quality.SUBSTITUTED),
        ):
            signer.change(substitution={"rules": rules})
            node.reload(load_config(signer.path))
            (found,) = [
                item
                for item in node.draft(PERIOD.number, 0).member_periods
                if item.member.slot == 3
            ]
            assert {item.quality for item in found.readings[29:50]} == {quality}
            if quality is Quality.SUBSTITUTED:
                gap = found.readings[29:50]
                before, after = readings(PERIOD, 3)[29], readings(PERIOD, 3)[50]
                assert sum(item.import_wh for item in gap) == (
                    after.reading.import_register_wh - before.reading.import_register_wh
                )
        node.store.close()

    def test_signs_one_report_only(self, node: OracleNode) -> None:
        node.intake.take(packed(PERIOD))
        draft = node.draft(PERIOD.number, 0)
        first = node.confirm(PERIOD.number, 0, draft.hash)
        assert node.confirm(PERIOD.number, 0, draft.hash) == first
        with pytest.raises(ReportRefused, match="signed already"):
            node.confirm(PERIOD.number, 0, bytes(32))
        with pytest.raises(ReportRefused, match="asked for"):
            node.confirm(PERIOD.number, 1, bytes(32))
        later = node.draft(PERIOD.number, 1)
        with pytest.raises(ReportRefused, match="change nothing"):
            node.confirm(PERIOD.number, 1, later.hash)
        node.store.close()

    def test_what_does_not_fit_is_kept_once_with_its_reason(self, node: OracleNode) -> None:
        """A register that fell, and two readings that contradict each other: seen when the period is put together."""
        counted: list[str] = []
        node.intake.observe_rejection = counted.append
        fell = replace(readings(PERIOD, 3)[10].reading, import_register_wh=1)
        other = replace(readings(PERIOD, 4)[10].reading, import_register_wh=2)
        data = packed(PERIOD).replace(pack_all(readings(PERIOD, 3)[10:11]), b"")
        data += pack_all(
            sign_reading(key("meter", slot), PAPER.domain, reading)
            for slot, reading in ((3, fell), (4, other))
        )
        assert node.intake.take(data).refused == ()
        for _ in range(2):
            assert node.draft(PERIOD.number, 0).rejected == len(counted)
        codes = Counter(row.code for row in node.store.rejections())
        assert codes == Counter(counted)
        assert codes == {"step": 2, "contradiction": 2}
        assert {row.source for row in node.store.rejections()} == {"validation"}
        node.store.close()

    def test_says_what_a_version_changed(self, node: OracleNode) -> None:
        late = pack_all(readings(PERIOD, 5)[96:])
        node.intake.take(packed(PERIOD).replace(late, b""))
        node.confirm(PERIOD.number, 0, node.draft(PERIOD.number, 0).hash)
        node.intake.take(late)
        node.confirm(PERIOD.number, 1, node.draft(PERIOD.number, 1).hash)
        assert node.changes(PERIOD.number, 1) == [(5, PERIOD.first_interval + 95)]
        assert node.changes(PERIOD.number, 2) == []
        node.store.close()

    def test_completeness_counts_members_only(self, signer: Signer, store_url: str) -> None:
        """Neither the transformer's meter nor a former member's can stand in for a member's that is missing."""
        data = json.loads(signer.path.read_text())
        data["members"][1] |= {"until_period": PERIOD.number}
        stranger = data["members"].pop()["meter"]
        data["transformer"] = {
            "meter": stranger, "fuse_limit_wh": 10**6, "fixed_loss_wh": 0, "loss_permille": 0
        }  # fmt: skip
        signer.change(**data | {"store": store_url})
        ends = (PERIOD.first_interval + 10) * 900
        node = OracleNode.open(signer.config, clock=lambda: ends + 5.0)
        # Of the two members left one sends nothing.
        for slot in SLOTS[1:]:
            node.intake.take(pack_all(readings(PERIOD, slot)[:11]))
        text = OracleMetrics(node).text().decode()
        node.store.close()
        assert 'peerwatt_oracle_completeness_ratio{intervals_ago="0"} 0.5' in text

    def test_a_member_without_salt(self, signer: Signer) -> None:
        (signer.folder / "salts.json").write_text(json.dumps({"3": "00" * 32}))
        node = OracleNode.open(signer.config)
        with pytest.raises(ReportRefused, match="salt"):
            node.draft(PERIOD.number, 0)
        node.store.close()


class TestUpload:
    @pytest.fixture
    def collecting(self, signer: Signer) -> Signer:
        write_keystore(signer.folder / "collector.json", key("collector"))
        meters = {
            "meters": [
                {
                    "meter": "0x" + meter_address("uploads", name).hex(),
                    "signers": [{"signer": address_of(key("collector")), "kind": "collector"}],
                }
                for name in ("house-1", "house-2")
            ]
        }
        (signer.folder / "meters.json").write_text(json.dumps(meters))
        signer.change(
            collector={
                "keystore": "collector.json",
                "devices": [
                    {"source": "uploads", "device": "house-1"},
                    {"source": "uploads", "device": "house-2", "has_export": False},
                ],
            },
            sources=[
                {
                    "kind": "files",
                    "name": "uploads",
                    "location": "x",
                    "time_zone": "Europe/Copenhagen",
                }
            ],
        )
        return signer

    def test_a_file_with_errors_in_rows(self, collecting: Signer, tmp_path: Path) -> None:
        day = PERIOD.day - timedelta(days=1)
        path = tmp_path / "june.csv"
        path.write_text(
            "meter;time;import_kwh;export_kwh\n"
            f"house-1;{day}T12:00:00Z;1,5;0\n"
            f"house-1;{day}T12:15:00Z;1,75;0\n"
            f"house-2;{day} 14:15;7;\n"
            f"house-2;{day} 14:30;seven;\n"
            f"house-3;{day} 14:30;7;\n"
            f"house-1;{day} 14:45;7;\n"
        )
        done = command(
            "oracle", "import", str(collecting.path), str(path), "--source", "uploads", "--json"
        )
        assert done.exit_code == 1
        data = json.loads(done.stdout)
        assert (data["new"], data["known"], data["signed"]) == (3, 0, 3)
        assert [(item["row"], item["code"]) for item in data["refused"]] == [
            (5, "number"),
            (6, "unknown_device"),
            (7, "direction"),
        ]
        again = command("oracle", "import", str(collecting.path), str(path), "--source", "uploads")
        assert "0 new, 3 known before, 3 refused; 0 readings signed" in again.stdout
        shown = command("oracle", "status", str(collecting.path), "--rejections", "9")
        assert "row 5: import_kwh: 'seven' is no register" in shown.stdout
        assert "row 7: export: the device does not say" in shown.stdout

    def test_a_file_without_errors(self, collecting: Signer, tmp_path: Path) -> None:
        path = tmp_path / "fine.csv"
        path.write_text(f"meter,time,import_wh,export_wh\nhouse-1,{PERIOD.day}T12:00:00Z,1,2\n")
        done = command("oracle", "import", str(collecting.path), str(path), "--source", "uploads")
        assert done.exit_code == 0, done.output

    def test_a_corrected_table_makes_a_new_version(
        self, collecting: Signer, tmp_path: Path
    ) -> None:
        entry = json.loads(collecting.path.read_text())["members"][0]
        entry["meter"] = "0x" + meter_address("uploads", "house-1").hex()
        collecting.change(members=[entry])
        path, day = tmp_path / "day.csv", PERIOD.day
        head = "meter,time,import_wh,export_wh\n"
        first_ms = PERIOD.first_interval * 900_000

        def row(number: int, value: int) -> str:
            moment = datetime.fromtimestamp(first_ms / 1000 + number * 900, UTC)
            return f"house-1,{moment.isoformat()},{value},0\n"

        path.write_text(head + "".join(row(number, 100 * number) for number in range(97)))
        arguments = ("oracle", "import", str(collecting.path), str(path), "--source", "uploads")
        assert command(*arguments).exit_code == 0

        def report(version: int) -> list[int]:
            node = OracleNode.open(collecting.config)
            draft = node.draft(PERIOD.number, version)
            node.confirm(PERIOD.number, version, draft.hash)
            assert node.changes(PERIOD.number, version) == (
                [(3, PERIOD.first_interval + index) for index in (49, 50)] if version else []
            )
            node.store.close()
            return [item.import_wh for item in draft.member_periods[0].readings]

        assert report(0) == [100] * 96
        path.write_text(head + row(50, 5040))
        done = command(*arguments, "--correct", "--json")
        assert done.exit_code == 0, done.output
        data = json.loads(done.stdout)
        assert (data["taken_back"], data["signed"]) == (1, 1)
        assert report(1) == [100] * 49 + [140, 60] + [100] * 45
        again = json.loads(command(*arguments, "--correct", "--json").stdout)
        assert (again["taken_back"], again["signed"]) == (0, 0)
        checked = command("oracle", "verify", str(collecting.path), "--day", day.isoformat())
        assert checked.exit_code == 0, checked.stdout

    def test_energies_by_time_correct_nothing(self, collecting: Signer, tmp_path: Path) -> None:
        path = tmp_path / "energies.csv"
        path.write_text(
            f"meter,start,end,import_wh\nhouse-1,{PERIOD.day}T12:00:00Z,{PERIOD.day}T12:15:00Z,1\n"
        )
        arguments = ("oracle", "import", str(collecting.path), str(path), "--source", "uploads")
        done = command(*arguments, "--correct")
        assert done.exit_code == 2
        assert "cannot correct" in done.output

    def test_what_cannot_be_read(self, collecting: Signer, signer: Signer, tmp_path: Path) -> None:
        (tmp_path / "x.pdf").write_bytes(b"%PDF")
        for path in (tmp_path / "none.csv", tmp_path / "x.pdf"):
            done = command("oracle", "import", str(collecting.path), str(path))
            assert done.exit_code == 2, done.output
        signer.change(collector=None)
        done = command("oracle", "import", str(signer.path), str(tmp_path / "x.pdf"))
        assert done.exit_code == 2
        assert "collector" in done.output

    def test_a_pushed_message(self, collecting: Signer) -> None:
        device = "3bd0fce9-9f8e-4183-b3d1-0c1622a22ca1"
        node = OracleNode.open(collecting.config, clock=lambda: 1_571_228_444.0 + 60)
        devices = {("smart-me", device): next(iter(collecting.config.devices().values()))}
        collector = Collector(key("collector"), node.intake, devices, clock=node.clock)
        pushes = {"smart-me": lambda data: collector.accept("smart-me", decode_push(data))}
        message = bytes.fromhex((DATA / "smart-me-push.hex").read_text())
        with serving(oracle_app(node, OracleMetrics(node), TOKEN, pushes)) as url:
            path = f"{url}/sources/smart-me?token="
            answers = [
                requests.post(path + token, data=message, timeout=10)
                for token in (TOKEN, TOKEN, "other")
            ]
        assert [answer.status_code for answer in answers] == [200, 200, 401]
        assert [answer.json() for answer in answers[:2]] == [{"taken": 1}, {"taken": 0}]
        node.store.close()

    def test_sources_are_tried_out(self, collecting: Signer) -> None:
        (collecting.folder / "x").mkdir()
        done = command("oracle", "status", str(collecting.path), "--sources")
        assert done.exit_code == 1
        assert "uploads: does not work" in done.stdout
        collecting.change(sources=[{"kind": "simbench", "start": str(PERIOD.day)}])
        done = command("oracle", "status", str(collecting.path), "--sources", "--json")
        assert json.loads(done.stdout)[0]["works"]
        collecting.change(sources=[])
        assert command("oracle", "status", str(collecting.path), "--sources").exit_code == 2


class TestReceipts:
    @pytest.fixture
    def receipt(self, signer: Signer) -> Receipt:
        """Of slot 4."""
        return self._receipts(signer, None)[4]

    def _receipts(self, signer: Signer, traded: TradedPeriod | None) -> dict[int, Receipt]:
        """By slot; two signers, in this process."""
        node = OracleNode.open(signer.config)
        node.intake.take(packed(PERIOD))
        draft = node.draft(PERIOD.number, 0)
        if traded is not None:
            deviations = with_trades(draft.member_periods, PERIOD, traded.trades, traded.fee_slot)
            report = node._report(PERIOD, 0, tuple(deviations))
            draft = replace(draft, report=report, member_periods=tuple(deviations))
        keys = sorted(
            (key("signer", index) for index in range(2)), key=lambda item: int(address_of(item), 16)
        )
        assembled = AssembledReport(
            draft.report,
            tuple(sign_report(item, node.config.domain, draft.report) for item in keys),
            tuple(address_of(item) for item in keys),
            {
                item.member.slot: ReportedSlot(
                    item.member.slot, item.salt, draft.vectors()[item.member.slot]
                )
                for item in draft.member_periods
            },
            (),
            {},
        )
        made = list(make_receipts(node.config, assembled, node.store, node.directory, traded))
        node.store.close()
        assert [item.slot for item in made] == list(SLOTS)
        return {item.slot: item for item in made}

    def test_holds(self, receipt: Receipt) -> None:
        found = check_receipt(receipt)
        assert found.faults == ()
        assert (found.measured, found.substituted, found.missing) == (96, 0, 0)
        assert found.signed_by == (receipt.meter,)
        assert found.export_wh == 600

    def test_it_says_whose_key_signed_and_what_nobody_can_check(self, receipt: Receipt) -> None:
        found = explain(check_receipt(receipt), receipt.meter)
        (signer,) = found["signers"]
        assert (signer["signer"], signer["kind"]) == (receipt.meter, "meter")
        assert found["substituted_unchecked"] == []
        # Quality 1 in the last two bytes: a value that some rule made, with other energy than the registers show.
        vector = bytearray.fromhex(receipt.vector[2:])
        vector[16 * 5 + 6] ^= 1
        vector[16 * 5 + 15] = 1
        filled = receipt.model_copy(update={"vector": "0x" + vector.hex()})
        found = explain(check_receipt(filled), receipt.meter)
        assert found["substituted_unchecked"] == [receipt.first_interval + 5]
        assert not found["right"], "the report was made of other values"

    def test_an_interval_in_which_a_register_fell_is_named_not_believed(
        self, receipt: Receipt
    ) -> None:
        """As after a rollover, which the receipt alone cannot show."""
        wrapped = [
            replace(item.reading, import_register_wh=item.reading.import_register_wh % 5000)
            for item in readings(PERIOD, 4)
        ]
        fallen = [
            later.interval
            for earlier, later in pairwise(wrapped)
            if later.import_register_wh < earlier.import_register_wh
        ]
        again = [
            "0x" + pack(sign_reading(key("meter", 4), PAPER.domain, item)).hex() for item in wrapped
        ]
        found = check_receipt(receipt.model_copy(update={"readings": tuple(again)}))
        assert fallen
        assert list(found.unchecked) == fallen
        assert found.faults == ()

    def test_every_change_shows(self, receipt: Receipt) -> None:
        changes: list[dict[str, Any]] = [
            {"chain_id": receipt.chain_id + 1},
            {"oracle_contract": "0x" + "0b" * 20},
            {"clearing_house": "0x" + "0b" * 20},
            {"threshold": 3},
            {"threshold": 1},
            {"committee": receipt.committee[:2]},
            {"slot": 5},
            {"period": receipt.period + 1},
            {"version": 1},
            {"first_interval": receipt.first_interval + 1},
            {"readings_root": "0x" + "11" * 32},
            {"totals_hash": "0x" + "11" * 32},
            {"vector": receipt.vector[:-34] + "01" + receipt.vector[-32:]},
            {"salt": "0x" + "11" * 32},
            {"proof": receipt.proof[1:]},
            {"proof": (receipt.proof[1], *receipt.proof[1:])},
            {"signatures": receipt.signatures[:1]},
            {"signatures": receipt.signatures[:1] * 2},
            {"signatures": (receipt.signatures[0], receipt.signatures[1][:-2] + "00")},
            {"readings": receipt.readings[1:]},
            {"readings": (*receipt.readings[:5], receipt.readings[5][:-6] + "123456")},
            {"meter": "0x" + "22" * 20},
        ]
        for change in changes:
            assert check_receipt(receipt.model_copy(update=change)).faults, change

    def test_with_trades_before_delivery(self, signer: Signer, tmp_path: Path) -> None:
        trade = ForwardTrade(PERIOD.first_interval + 48, 3, 4, 250, 180_000, 3)
        made = self._receipts(signer, TradedPeriod((trade,), fee_slot=5))
        plain = self._receipts(signer, TradedPeriod((), fee_slot=5))
        for slot, (sold, bought, nano) in {
            3: (250, 0, 250 * (180_000 - 1)),
            4: (0, 250, -250 * (180_000 + 2)),
            5: (0, 0, 250 * 3),
        }.items():
            found, without = check_receipt(made[slot]), check_receipt(plain[slot])
            assert (found.faults, without.faults) == ((), ())
            assert (found.sold_wh, found.bought_wh, found.traded_nano) == (sold, bought, nano)
            assert found.import_wh - without.import_wh == sold
            assert found.export_wh - without.export_wh == bought
            assert without.traded_nano == 0
        for change in (
            {"trades": ()},
            {"trades": made[3].trades * 2},
            {"trades": (made[3].trades[0].model_copy(update={"energy_wh": 251}),)},
            {"trades": (made[3].trades[0].model_copy(update={"seller_slot": 5}),)},
            {"vector": made[3].vector[:-32]},
            {"vector": made[3].vector[:-2] + "00"},
        ):
            assert check_receipt(made[3].model_copy(update=change)).faults, change
        path = tmp_path / "receipt.json"
        path.write_text(made[4].model_dump_json())
        done = command("verify-reading", str(path))
        assert done.exit_code == 0, done.output
        assert "250 Wh bought as export; the trades brought -45000500 nano" in done.stdout

    def test_the_command(self, receipt: Receipt, tmp_path: Path) -> None:
        path = tmp_path / "receipt.json"
        path.write_text(receipt.model_dump_json())
        done = command("verify-reading", str(path))
        assert done.exit_code == 0, done.output
        assert "registers signed by the meter itself" in done.stdout
        path.write_text(receipt.model_copy(update={"threshold": 3}).model_dump_json())
        done = command("verify-reading", str(path))
        assert done.exit_code == 1
        assert "wrong: 0 of the 3 signatures needed" in done.stdout

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "peerwatt/day/1"}'])
    def test_a_file_that_is_none(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "receipt.json"
        path.write_text(text)
        assert command("verify-reading", str(path)).exit_code == 2

    def test_a_field_that_is_none(self, receipt: Receipt) -> None:
        with pytest.raises(MalformedInput):
            check_receipt(receipt.model_copy(update={"salt": "0x12"}))


class TestConfiguration:
    @pytest.mark.parametrize(
        "change",
        [
            {"committees": []},
            {"committees": [{"threshold": 4, "signers": ["0x" + "01" * 20] * 4}]},
            {"time_zone": "Mars/Olympus"},
            {"interval_minutes": 10},
            {"oracle_contract": "0x12"},
            {
                "members": [
                    {
                        "slot": 1,
                        "meter": "0x" + "01" * 20,
                        "node": "a",
                        "tariff_class": "b",
                        "fuse_limit_wh": 1,
                    }
                ]
            },
            {"secret": "x"},
        ],
    )
    def test_what_is_wrong_is_told(self, signer: Signer, change: dict[str, Any]) -> None:
        signer.change(**change)
        with pytest.raises(InputError):
            load_config(signer.path)

    def test_a_slot_twice(self, signer: Signer) -> None:
        members = json.loads(signer.path.read_text())["members"]
        signer.change(members=[*members, members[0]])
        with pytest.raises(InputError, match="twice"):
            load_config(signer.path)

    def test_members_come_and_go(self, signer: Signer) -> None:
        members = json.loads(signer.path.read_text())["members"]
        members[0] |= {"from_period": 100, "until_period": 102}
        signer.change(members=members)
        config = load_config(signer.path)
        assert [len(config.members(number)) for number in (99, 100, 101, 102)] == [3, 4, 4, 3]

    def test_a_committee_before_the_first(self, signer: Signer) -> None:
        committees = json.loads(signer.path.read_text())["committees"]
        signer.change(committees=[committees[0] | {"from_period": 10}])
        with pytest.raises(InputError, match="no committee"):
            load_config(signer.path).committee(9)

    @pytest.mark.parametrize("period", [-(10**9), 10**9, 10**30])
    def test_no_such_period(self, signer: Signer, period: int) -> None:
        with pytest.raises(MalformedInput):
            load_config(signer.path).period(period)

    @pytest.mark.parametrize(
        "source",
        [
            {},
            {"kind": "telepathy"},
            {"kind": "mqtt"},
            {"kind": "mqtt", "host": "x", "subscriptions": []},
            {"kind": "smart-me", "api_key_file": "none"},
            {"kind": "smart-me", "username": "u"},
            {"kind": "files", "location": "x", "public_keys": {"1": "zz"}},
            {"kind": "files", "location": "x", "time_zone": "Mars/Olympus"},
            {"kind": "simbench", "start": "2026-06-21", "first_day": "2020-01-01"},
        ],
    )
    def test_a_source_that_is_wrong(self, signer: Signer, source: dict[str, Any]) -> None:
        signer.change(sources=[source])
        with pytest.raises(InputError):
            open_sources(load_config(signer.path))

    @pytest.mark.parametrize("text", ["[]", "{}", '{"3": "12"}', '{"x": "%s"}' % ("0" * 64), "no"])
    def test_salts_that_are_none(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "salts.json"
        path.write_text(text)
        with pytest.raises(MalformedInput):
            load_salts(path)

    def test_keystores(self, signer: Signer, tmp_path: Path) -> None:
        folder, password = signer.folder / "keys", signer.folder / "password"
        assert list(load_keys(folder, password)) == [address_of(key("signer", 0))]
        with pytest.raises(MalformedInput) as raised:
            load_key(folder / "first.json", "geheim")
        assert "geheim" not in str(raised.value)
        (folder / "other.json").write_text("{}")
        with pytest.raises(MalformedInput):
            load_keys(folder, password)
        with pytest.raises(MalformedInput, match="no keystore"):
            load_keys(tmp_path, password)
        password.write_text("")
        with pytest.raises(MalformedInput, match="empty"):
            load_keys(folder, password)
        assert PASSWORD not in str(raised.value)

    def test_a_report_that_nobody_answers(self, signer: Signer) -> None:
        done = command("oracle", "report", str(signer.path), "--day", day_of(PERIOD))
        assert done.exit_code == QuorumNotReached.exit_code
        assert "does not answer" in done.output

    def test_a_process_needs_what_the_configuration_names(self, signer: Signer) -> None:
        (signer.folder / "meters.json").unlink()
        with pytest.raises(InputError):
            SignerProcess(signer.path)
        assert command("oracle", "run", str(signer.path)).exit_code == 2

    def test_verify_sees_a_changed_row(self, signer: Signer) -> None:
        node = OracleNode.open(signer.config)
        node.intake.take(packed(PERIOD))
        node.confirm(PERIOD.number, 0, node.draft(PERIOD.number, 0).hash)
        node.store.close()
        assert command("oracle", "verify", str(signer.path), "--day", day_of(PERIOD)).exit_code == 0
        import sqlite3

        database = sqlite3.connect(signer.folder / "readings.sqlite")
        database.execute(
            "update reading set import_register_wh = import_register_wh + 1 where interval = ?",
            (PERIOD.first_interval + 7,),
        )
        database.commit()
        database.close()
        done = command("oracle", "verify", str(signer.path), "--day", day_of(PERIOD), "--json")
        assert done.exit_code == 1
        faults = json.loads(done.stdout)["faults"]
        assert len([fault for fault in faults if "signature or hash does not fit" in fault]) == 4
        assert len([fault for fault in faults if "2 intervals differ" in fault]) == 4
