"""Every source on recorded or standard data: what is taken, what is refused and why; HTTP against a server process."""

from __future__ import annotations

import io
import json
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from openpyxl import Workbook

from backend.domain.errors import MalformedInput, SourceUnavailable
from backend.domain.readings import Quality
from oracle.sources.base import (
    Item,
    Page,
    Refusal,
    Sighting,
    Unusable,
    datetime_ms,
    iso_ms,
    register_wh,
    unix_ms,
)
from oracle.sources.files import FileFormat, Files
from oracle.sources.http import api_key, basic
from oracle.sources.ocmf import decode_ocmf, public_key
from oracle.sources.payloads import crc16, decode_dsmr, decode_shelly, decode_tasmota
from oracle.sources.replay import SimbenchReplay
from oracle.sources.simbench import interval_energy_wh, load_feeder, select_households
from oracle.sources.smart_me import SmartMe, decode_devices, decode_push
from oracle.sources.tabular import decode_csv, decode_xlsx
from tests.support.http_server import KEY, PASSWORD, USER, serving

DATA = Path(__file__).parent / "data"
COPENHAGEN = ZoneInfo("Europe/Copenhagen")
NEVER = Event()


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def data(name: str) -> bytes:
    return (DATA / name).read_bytes()


def only(items: tuple[Item, ...]) -> Item:
    (item,) = items
    return item


def codes(items: Any) -> list[str]:
    return [item.code if isinstance(item, Refusal) else "" for item in items]


class TestNumbersAndTimes:
    @pytest.mark.parametrize(
        ("value", "unit", "energy"),
        [
            (514.153, "kWh", 514_153),
            ("0001.9999", "kwh", 1999),
            (0.1 + 0.2, "kWh", 300),
            (2, "MWh", 2_000_000),
            ("1e3", " Wh ", 1000),
            (0, "Wh", 0),
            (-0.0, "Wh", 0),
        ],
    )
    def test_registers(self, value: object, unit: str, energy: int) -> None:
        assert register_wh(value, unit, "x") == energy

    @pytest.mark.parametrize(
        ("value", "unit", "code"),
        [
            (1, "kW", "unit"),
            (1, None, "unit"),
            (True, "Wh", "number"),
            (None, "Wh", "number"),
            ("1_000", "Wh", "number"),
            ("\u0661", "Wh", "number"),
            ("NaN", "Wh", "number"),
            (float("inf"), "Wh", "number"),
            ("-1", "Wh", "number"),
            (1e300, "Wh", "range"),
            (2**63, "Wh", "range"),
            ([1], "Wh", "number"),
        ],
    )
    def test_registers_that_are_none(self, value: object, unit: object, code: str) -> None:
        with pytest.raises(Unusable) as raised:
            register_wh(value, unit, "field")
        assert raised.value.code == code
        assert raised.value.reason.startswith("field: ")

    def test_the_hour_that_clocks_show_twice_needs_an_offset_or_the_time_of_arrival(self) -> None:
        first, second = ms("2023-10-29T02:30:00+02:00"), ms("2023-10-29T02:30:00+01:00")
        text = "2023-10-29T02:30:00"
        assert iso_ms(text, "t", COPENHAGEN, first + 1000) == first
        assert iso_ms(text, "t", COPENHAGEN, second + 1000) == second
        with pytest.raises(Unusable, match="twice"):
            iso_ms(text, "t", COPENHAGEN)

    @pytest.mark.parametrize(
        "text",
        ["2023-03-26T02:30:00", "2023-03-26", "x", 5, None, "1970-01-01T00:00:00Z", "9" * 50],
    )
    def test_times_that_are_none(self, text: object) -> None:
        if text == "2023-03-26":
            assert iso_ms(text, "t", COPENHAGEN) == ms("2023-03-26T00:00:00+01:00")
            return
        with pytest.raises(Unusable):
            iso_ms(text, "t", COPENHAGEN)

    def test_a_local_time_without_a_zone(self) -> None:
        with pytest.raises(Unusable, match="no zone"):
            datetime_ms(datetime(2026, 6, 1), "t")

    @pytest.mark.parametrize("value", [None, True, "1", float("nan"), 1e300, 0, -5, 10**12])
    def test_unix_times_that_are_none(self, value: object) -> None:
        with pytest.raises(Unusable):
            unix_ms(value, "ts")


class TestSmartMe:
    GUID = "3bd0fce9-9f8e-4183-b3d1-0c1622a22ca1"

    def test_the_push_message_of_the_documentation(self) -> None:
        """The documentation says: 1879.5832 Wh imported, nothing exported, 2019-10-16 12:20:44 UTC."""
        item = only(decode_push(bytes.fromhex(data("smart-me-push.hex").decode())))
        assert isinstance(item, Sighting)
        assert (item.device, item.import_wh, item.export_wh) == (self.GUID, 1879, 0)
        assert item.time_ms // 1000 == ms("2019-10-16T12:20:44Z") // 1000

    def test_every_part_of_a_push_message_that_is_cut_off_is_refused(self) -> None:
        message = bytes.fromhex(data("smart-me-push.hex").decode())
        for length in range(1, len(message)):
            assert codes(decode_push(message[:length])) == ["format"], length

    def test_devices(self) -> None:
        items = decode_devices(data("smart-me-devices.json"))
        assert items[0] == Sighting(self.GUID, ms("2026-06-21T12:00:04.123Z"), 1_879_583, 1_277_808)
        assert isinstance(items[1], Sighting)
        assert items[1].import_wh == 2_428_878_776
        assert isinstance(items[2], Sighting)
        assert (items[2].import_wh, items[2].export_wh) == (None, None)
        assert len(items) == 3  # water is passed over

    @pytest.mark.parametrize("auth", [api_key(KEY), basic(USER, PASSWORD)], ids=["key", "basic"])
    def test_over_http(self, auth: str, tmp_path: Path) -> None:
        (tmp_path / "smart-me-devices.json").write_bytes(data("smart-me-devices.json"))
        (tmp_path / "values.json").write_text(
            '{"Date": "2026-06-21T11:59:59Z", "CounterReadingUnit": "kWh", '
            '"CounterReadingImport": 1, "CounterReadingExport": 2}'
        )
        with serving(tmp_path) as url:
            source = SmartMe(auth, url, poll_seconds=0.01)
            tested = source.test_connection()
            assert tested.works
            assert self.GUID in tested.devices
            deliveries = source.deliveries(NEVER)
            assert next(deliveries).items == next(deliveries).items
            past = source.at(self.GUID, datetime(2026, 6, 21, 12, tzinfo=UTC))
            assert only(past) == Sighting(self.GUID, ms("2026-06-21T11:59:59Z"), 1000, 2000)

    @pytest.mark.parametrize(
        ("path", "auth", "said"),
        [
            ("", basic("user", "geheim"), "refuses the credentials (401)"),
            ("/status/500", basic(USER, PASSWORD), "answers 500"),
            ("/status/429", basic(USER, PASSWORD), "asked too often"),
            ("/status/404", basic(USER, PASSWORD), "answers 404"),
            ("/elsewhere", basic(USER, PASSWORD), "answers 302"),
            ("/large", basic(USER, PASSWORD), "answers too much"),
        ],
    )
    def test_over_http_when_something_is_wrong(
        self, path: str, auth: str, said: str, tmp_path: Path
    ) -> None:
        with serving(tmp_path) as url:
            tested = SmartMe(auth, url + path).test_connection()
        assert not tested.works
        assert said in tested.detail
        assert "geheim" not in tested.detail

    def test_after_a_break_the_borders_that_were_missed_are_asked_for(self, tmp_path: Path) -> None:
        (tmp_path / "smart-me-devices.json").write_bytes(data("smart-me-devices.json"))
        (tmp_path / "values.json").write_text(
            '{"Date": "2026-06-21T11:59:59Z", "CounterReadingUnit": "kWh", '
            '"CounterReadingImport": 1, "CounterReadingExport": 2}'
        )
        with serving(tmp_path) as url:
            source = SmartMe(api_key(KEY), url, poll_seconds=0.01)
            assert len(next(source.deliveries(NEVER)).items) == 3
            source._asked_at = time.time() - 3 * 900
            deliveries = source.deliveries(NEVER)
            # What is there now, then three borders of three devices.
            assert [len(next(deliveries).items) for _ in range(4)] == [3, 3, 3, 3]
            deliveries = source.deliveries(NEVER)
            source._asked_at = time.time() - 3 * 900
            assert [len(next(deliveries).items) for _ in range(3)] == [3, 3, 3]
        # The third border fails: the two before it are not asked for again.
        with pytest.raises(SourceUnavailable):
            list(deliveries)
        assert len(source._missed(time.time())) == 1
        source._asked_at = time.time() - 30 * 86_400
        assert len(source._missed(time.time())) == 97

    def test_nobody_there(self) -> None:
        source = SmartMe(None, "http://user:geheim@127.0.0.1:1")
        with pytest.raises(SourceUnavailable) as raised:
            next(source.deliveries(NEVER))
        assert "geheim" not in str(raised.value)


class TestPayloads:
    def test_the_telegram_of_the_standard(self) -> None:
        item = only(decode_dsmr(data("dsmr-5.0.2.txt")))
        assert item == Sighting(
            "4B384547303034303436333935353037",
            ms("2010-12-09T11:30:20+01:00"),
            246_913_578,
            246_913_578,
        )

    @pytest.mark.parametrize(
        ("old", "new", "code"),
        [
            (b"!E47C", b"!E47D", "checksum"),
            (b"!E47C", b"!", "checksum"),
            (b"123456.789*kWh", b"123456.788*kWh", "checksum"),
            (b"/", b"", "format"),
        ],
    )
    def test_a_telegram_changed_on_the_way(self, old: bytes, new: bytes, code: str) -> None:
        assert codes(decode_dsmr(data("dsmr-5.0.2.txt").replace(old, new, 1))) == [code]

    @pytest.mark.parametrize(
        ("old", "new", "code"),
        [
            (b"0-0:1.0.0(101209113020W)", b"0-0:1.0.0(101209113020)", "clock"),
            (b"(101209113020W)\r\n0-0:96.1.1", b"(101309113020W)\r\n0-0:96.1.1", "clock"),
            (b"0-0:96.1.1(", b"0-0:96.1.2(", "format"),
            (b"1-0:1.8.1(123456.789*kWh)", b"1-0:1.8.1(123456.789*kW)", "unit"),
            (b"1-0:1.8.1(123456.789*kWh)", b"1-0:1.8.1(-23456.789*kWh)", "number"),
            (b"1-0:1.8.2", b"1-0:1.8.1", "format"),
        ],
    )
    def test_a_telegram_with_a_fault_and_a_right_checksum(
        self, old: bytes, new: bytes, code: str
    ) -> None:
        body = data("dsmr-5.0.2.txt").split(b"!")[0].replace(old, new, 1) + b"!"
        assert codes(decode_dsmr(body + f"{crc16(body):04X}\r\n".encode())) == [code]

    def test_one_of_two_tariffs_is_not_the_whole_register(self) -> None:
        body = (
            data("dsmr-5.0.2.txt").split(b"!")[0].replace(b"1-0:2.8.2(123456.789*kWh)\r\n", b"")
            + b"!"
        )
        item = only(decode_dsmr(body + f"{crc16(body):04X}".encode()))
        assert isinstance(item, Sighting)
        assert (item.import_wh, item.export_wh) == (246_913_578, None)

    def test_crc16_is_the_standards(self) -> None:
        assert crc16(b"123456789") == 0xBB3D  # the check value of CRC-16/ARC

    def test_shelly(self) -> None:
        item = only(decode_shelly(data("shelly-pro3em.json")))
        assert item == Sighting(
            "shellypro3em-1234567890ab/emdata:0", 1757060280210, 26_289, 131_881
        )

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"src": 5}, "format"),
            ({"params": []}, "format"),
            ({"params": {"emdata:0": 1}}, "format"),
        ],
    )
    def test_shelly_with_a_fault(self, change: dict[str, Any], code: str) -> None:
        message = json.loads(data("shelly-pro3em.json")) | change
        assert codes(decode_shelly(json.dumps(message).encode())) == [code]

    def test_shellys_other_notifications_are_passed_over(self) -> None:
        assert decode_shelly(b'{"src": "a", "method": "NotifyEvent", "params": {}}') == ()
        assert (
            decode_shelly(
                b'{"src": "a", "method": "NotifyStatus", "params": {"temperature:0": {"tC": 4}}}'
            )
            == ()
        )

    def test_tasmota(self) -> None:
        item = only(
            decode_tasmota(data("tasmota-energy.json"), "desk", 0, COPENHAGEN, export_field=None)
        )
        assert item == Sighting("desk", ms("2023-05-19T20:52:56+02:00"), 514_153, None)
        received = ms("2023-10-29T01:30:02Z")
        item = only(
            decode_tasmota(
                data("tasmota-sml.json"),
                "grid",
                received,
                COPENHAGEN,
                "SML.Total_in",
                "SML.Total_out",
            )
        )
        assert item == Sighting("grid", ms("2023-10-29T02:30:00+01:00"), 8_021_940, 1_352_756)

    def test_tasmota_with_a_fault(self) -> None:
        message = data("tasmota-energy.json")
        assert codes(decode_tasmota(message, "d", 0, None, export_field=None)) == ["clock"]
        assert codes(decode_tasmota(message, "d", 0, COPENHAGEN)) == ["direction"]
        assert codes(decode_tasmota(b"[]", "d", 0, COPENHAGEN)) == ["format"]
        assert decode_tasmota(b'{"Time": "x", "AM2301": {}}', "d", 0, COPENHAGEN) == ()


KEYS = {serial: public_key(text) for serial, text in json.loads(data("ocmf-keys.json")).items()}


CURVES = {"secp256r1": ec.SECP256R1(), "secp256k1": ec.SECP256K1()}


class TestOcmf:
    def signed(self, payload: dict[str, Any], curve: str = "secp256k1") -> tuple[bytes, Any]:
        key = ec.derive_private_key(7, CURVES[curve])
        text = json.dumps(payload).encode()
        signature = {"SA": f"ECDSA-{curve}-SHA256", "SD": key.sign(text, ec.ECDSA(SHA256())).hex()}
        return b"OCMF|" + text + b"|" + json.dumps(signature).encode(), key.public_key()

    def payload(self, page: str = "F5", **reading: Any) -> dict[str, Any]:
        whole = {
            "TM": "2026-06-21T12:00:00,000+0200 S",
            "RV": 5.25,
            "RI": "1-0:1.8.0*255",
            "RU": "kWh",
            "ST": "G",
        }
        return {"MS": "m1", "PG": page, "RD": [whole | reading]}

    def decoded(self, payload: dict[str, Any]) -> tuple[Item, ...]:
        message, key = self.signed(payload)
        page, *rest = decode_ocmf(message, {"m1": key})
        return tuple(rest) if isinstance(page, Page) else (page, *rest)

    def test_a_record_of_a_keba_on_p256(self) -> None:
        items = decode_ocmf(data("ocmf-keba-p256.ocmf"), KEYS)
        _, first, second = items
        assert isinstance(first, Sighting)
        assert isinstance(second, Sighting)
        assert (first.device, first.import_wh, first.export_wh) == ("17619300", 259, None)
        assert (first.time_ms, first.quality) == (ms("2019-08-13T10:03:15Z"), Quality.SUBSTITUTED)
        assert (second.import_wh, second.quality) == (259, Quality.MEASURED)
        assert first.evidence == data("ocmf-keba-p256.ocmf")

    def test_a_record_of_a_dzg_on_secp256k1(self) -> None:
        """Its value is text with spaces, its s in the upper half; both are in the field."""
        _, item = decode_ocmf(data("ocmf-dzg-secp256k1.ocmf"), KEYS)
        assert isinstance(item, Sighting)
        assert (item.device, item.import_wh) == ("1DZG0033016824", 9038)

    @pytest.mark.parametrize("name", ["ocmf-keba-p256.ocmf", "ocmf-dzg-secp256k1.ocmf"])
    def test_a_changed_payload(self, name: str) -> None:
        changed = data(name).replace(b'"ST":"G"', b'"ST":"S"').replace(b'"T198"', b'"T199"')
        assert codes(decode_ocmf(changed, KEYS)) == ["signature"]

    @pytest.mark.parametrize("curve", ["secp256r1", "secp256k1"])
    def test_both_curves_and_no_mixing(self, curve: str) -> None:
        message, key = self.signed(self.payload(), curve)
        assert codes(decode_ocmf(message, {"m1": key})) == ["", ""]
        other = ec.derive_private_key(7, CURVES[{*CURVES}.difference({curve}).pop()])
        assert codes(decode_ocmf(message, {"m1": other.public_key()})) == ["signature"]
        assert codes(decode_ocmf(message, {})) == ["signer"]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"RI": "1-0:2.8.0*255"}, ""),
            ({"RI": "01-00:C0.08.00*FF"}, ""),
            ({"RI": "01-00:98.08.00.FF"}, "direction"),
            ({"RI": "1-0:1.7.0"}, "direction"),
            ({"RI": None}, "direction"),
            ({"RU": "kW"}, "unit"),
            ({"ST": "M"}, "state"),
            ({"EF": "E"}, "state"),
            ({"EF": "z"}, "format"),
            ({"TM": "2026-06-21T12:00:00+0200 S"}, "clock"),
            ({"TM": "2026-06-31T12:00:00,000+0200 S"}, "clock"),
            ({"RV": -1}, "number"),
        ],
    )
    def test_readings(self, change: dict[str, Any], code: str) -> None:
        assert codes(self.decoded(self.payload(**change))) == [code]

    def test_what_is_left_out_is_as_in_the_reading_before(self) -> None:
        payload = self.payload()
        payload["RD"] += [{"TM": "2026-06-21T12:15:00,000+0200 S", "RV": 6}]
        items = self.decoded(payload)
        assert [item.import_wh for item in items if isinstance(item, Sighting)] == [5250, 6000]

    def test_import_and_export_of_one_moment_belong_together(self) -> None:
        payload = self.payload()
        payload["RD"] += [{"RI": "1-0:2.8.0", "RV": 1}]
        item = only(self.decoded(payload))
        assert isinstance(item, Sighting)
        assert (item.import_wh, item.export_wh) == (5250, 1000)
        payload["RD"] += [{"RV": 2}]
        assert codes(self.decoded(payload)) == ["format"]

    def test_its_page_comes_with_a_record(self) -> None:
        message, key = self.signed(self.payload("F7"))
        page, item = decode_ocmf(message, {"m1": key})
        assert page == Page("m1", "F", 7)
        assert isinstance(item, Sighting)
        for text in ("X1", "T", "T-1", 5, None):
            assert codes(self.decoded(self.payload() | {"PG": text})) == ["pagination"]

    @pytest.mark.parametrize("text", ["", "00", "zz", "MFkw", "30" * 91])
    def test_a_key_that_is_none(self, text: str) -> None:
        with pytest.raises(MalformedInput):
            public_key(text)

    def test_a_key_on_another_curve(self) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        key = ec.derive_private_key(7, ec.SECP384R1()).public_key()
        text = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()
        with pytest.raises(MalformedInput):
            public_key(text)


class TestTables:
    def test_each_row_has_its_own_error(self) -> None:
        items = list(decode_csv(data("readings.csv").replace(b"1 000,5", b"1000,5")))
        assert codes(items) == ["", "", "", "unit", "format", "clock", "number", "quality", ""]
        assert items[0] == Sighting("house-1", ms("2026-06-21T10:00:00Z"), 1_000_500, 0)
        assert items[2] == Sighting(
            "house-2", ms("2026-06-21T10:15:00Z"), 12_000, None, Quality.SUBSTITUTED
        )
        refusal = items[3]
        assert isinstance(refusal, Refusal)
        assert refusal.row == 5
        assert refusal.reason.startswith("row 5: import: unit 'kW'")
        assert "house-2;2026-06-21T12:30:00" in refusal.message.decode()

    def test_a_number_with_a_space_is_refused_not_guessed(self) -> None:
        assert codes(decode_csv(data("readings.csv")))[0] == "number"

    def test_a_decimal_comma_needs_another_separator(self) -> None:
        text = b'meter,time,import_kwh\na,2026-06-21T12:00:00Z,"1,5"\na,2026-06-21T12:00:00Z,1.5\n'
        assert codes(decode_csv(text)) == ["number", ""]

    def test_local_times_with_a_zone(self) -> None:
        text = b"meter\ttime\texport_wh\na\t2026-06-21 12:00\t7\na\t2026-10-25 02:30\t8\n"
        first, second = decode_csv(text, COPENHAGEN)
        assert first == Sighting("a", ms("2026-06-21T10:00:00Z"), None, 7)
        assert codes([second]) == ["clock"]
        assert codes(decode_csv(text)) == ["clock", "clock"]

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"\xff\xfe",
            b"meter;time\n",
            b"meter;time;import\n",
            b"time;import_wh\n",
            b"meter;meter;time;import_wh\n",
            b"meter;time;import_wh;import_kwh\n",
        ],
    )
    def test_a_header_that_does_not_do(self, text: bytes) -> None:
        with pytest.raises(MalformedInput):
            decode_csv(text)

    def workbook(self, *rows: tuple[object, ...]) -> bytes:
        book = Workbook()
        for row in rows:
            book.active.append(row)  # type: ignore[union-attr]
        buffer = io.BytesIO()
        book.save(buffer)
        return buffer.getvalue()

    def test_a_workbook(self) -> None:
        book = self.workbook(
            ("Meter", "Time", "Import_kWh", "Export_kWh"),
            ("a", datetime(2026, 6, 21, 12), 1.5, None),
            (17, "2026-06-21T12:00:00Z", "2,5", 1),
            (None, None, None, None),
            ("a", "never", 1, 1),
            ("a", 46194.5, 1, 1),
        )
        items = list(decode_xlsx(book, COPENHAGEN))
        assert items[:2] == [
            Sighting("a", ms("2026-06-21T10:00:00Z"), 1500, None),
            Sighting("17", ms("2026-06-21T12:00:00Z"), 2500, 1000),
        ]
        assert codes(items[2:]) == ["clock", "clock"]
        assert [item.row for item in items[2:] if isinstance(item, Refusal)] == [5, 6]

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a workbook"])
    def test_a_workbook_that_is_none(self, content: bytes) -> None:
        with pytest.raises(MalformedInput):
            decode_xlsx(content)


class TestFiles:
    def folder(self, path: Path) -> Path:
        (path / "a.csv").write_text("meter,time,import_wh\nm,2026-06-21T12:00:00Z,5\n")
        (path / "b.jsonl").write_text(
            "\n".join(json.dumps(item) for item in json.loads(data("smart-me-devices.json"))[:2])
            + "\n{\n"
        )
        (path / "c.ocmf").write_bytes(data("ocmf-dzg-secp256k1.ocmf"))
        (path / "notes.txt").write_text("x")
        (path / "index.txt").write_text("a.csv\nb.jsonl\nc.ocmf\n../secret.csv\n")
        return path

    def read(self, source: Files, count: int) -> list[Item]:
        deliveries = source.deliveries(NEVER)
        return [item for _ in range(count) for item in next(deliveries).items]

    def test_a_folder_on_a_nas(self, tmp_path: Path) -> None:
        source = Files(str(self.folder(tmp_path)), FileFormat(keys=KEYS), poll_seconds=0.01)
        assert source.test_connection().works
        items = self.read(source, 3)
        assert codes(items) == ["", "", "", "format", "", ""]  # the record has a page
        refusal = items[3]
        assert isinstance(refusal, Refusal)
        assert refusal.row == 3
        (tmp_path / "a.csv").write_text("meter,time,import_wh\nm,2026-06-21T12:15:00Z,6\n")
        deliveries = source.deliveries(NEVER)
        assert [item.time_ms for item in next(deliveries).items if isinstance(item, Sighting)] == [
            ms("2026-06-21T12:15:00Z")
        ]

    def test_a_folder_behind_http(self, tmp_path: Path) -> None:
        self.folder(tmp_path)
        with serving(tmp_path) as url:
            source = Files(url, FileFormat(keys=KEYS), 0.01, authorization=api_key(KEY))
            assert source.test_connection().works
            assert codes(self.read(source, 3)) == [
                "",
                "",
                "",
                "format",
                "",
                "",
            ]  # the record has a page
            (tmp_path / "b.jsonl").write_text("{}\n")
            assert codes(self.read(source, 1)) == ["format"]
            assert (
                not Files(url, FileFormat(), authorization=basic("a", "b")).test_connection().works
            )

    def test_a_row_that_is_still_being_written_waits(self, tmp_path: Path) -> None:
        """A register that has lost digits looks like one; from the folder it is taken when its line is whole."""
        text = "meter,time,import_wh\nm,2026-06-21T12:00:00Z,50\nm,2026-06-21T12:15:00Z,1000\n"
        source = Files(str(tmp_path), FileFormat(), 0.01)
        for length in (len(text) - 3, len(text) - 1):
            (tmp_path / "a.csv").write_text(text[:length])
            assert codes(self.read(source, 2)) == ["", "cut_off"]
        (tmp_path / "a.csv").write_text(text)
        items = self.read(source, 1)
        assert [item.import_wh for item in items if isinstance(item, Sighting)] == [50, 1000]

    def test_a_folder_without_index(self, tmp_path: Path) -> None:
        with serving(tmp_path) as url:
            tested = Files(url, FileFormat(), authorization=api_key(KEY)).test_connection()
        assert not tested.works
        assert "index.txt answers 404" in tested.detail

    def test_a_single_file_is_read_once(self, tmp_path: Path) -> None:
        source = Files(str(self.folder(tmp_path) / "a.csv"), FileFormat())
        assert [len(item.items) for item in source.deliveries(NEVER)] == [1]

    def test_nothing_there(self, tmp_path: Path) -> None:
        assert not Files(str(tmp_path), FileFormat()).test_connection().works
        assert not Files(str(tmp_path / "none"), FileFormat()).test_connection().works

    def test_a_table_without_header_is_one_refusal(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text("hello\n")
        (delivery,) = Files(str(path), FileFormat()).deliveries(NEVER)
        assert codes(delivery.items) == ["format"]


class TestReplay:
    DAY = date(2016, 6, 29)

    def test_registers_are_the_sums_of_the_households_energy(self) -> None:
        source = SimbenchReplay(4, 0, self.DAY, date(2026, 6, 21))
        deliveries = list(source.deliveries(NEVER))
        assert len(deliveries) == 97
        assert source.test_connection().works
        feeder = load_feeder()
        last = deliveries[-1].items
        for household, item in zip(select_households(feeder, 4), last, strict=True):
            taken, given = interval_energy_wh(household, self.DAY, feeder)
            assert isinstance(item, Sighting)
            assert (item.import_wh, item.export_wh) == (taken.sum(), given.sum())
            assert item.time_ms == ms("2026-06-22T00:00:00Z")

    def test_at_the_clocks_speed_and_stopped(self) -> None:
        stop = Event()
        source = SimbenchReplay(4, 0, self.DAY, date(2026, 6, 21), speed=900_000)
        deliveries = source.deliveries(stop)
        times = [next(deliveries).items[0] for _ in range(100)]
        steps = {
            later.time_ms - earlier.time_ms
            for earlier, later in pairwise(times)
            if isinstance(earlier, Sighting) and isinstance(later, Sighting)
        }
        assert steps == {int(timedelta(minutes=15) / timedelta(milliseconds=1))}
        stop.set()
        assert list(deliveries) == []
