"""Thousands of broken messages to every source and to the intake: none crashes, none is taken for what it is not, each refusal says why.

`PEERWATT_FUZZ_MESSAGES=10000` sends as many to each; without it a tenth of that.

"Taken wrongly" has a meaning of its own for each: a signed message may count only if its signed bytes are unchanged; a telegram
only if its checksum is right; where nothing protects a message, what comes out must still be registers that stand in it, at a
time that can be.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from openpyxl import Workbook

from backend.domain.errors import InputError, MalformedInput, ReadingRejected
from backend.domain.values import parse_json
from backend.settlement.encoding import meter_reading_hash
from oracle.directory import OwnKeys
from oracle.intake import Intake
from oracle.service import Retraction, take_retraction
from oracle.signing import sign_retraction
from oracle.sources.base import IntervalEnergy, Item, Refusal, Sighting
from oracle.sources.files import FileFormat
from oracle.sources.ocmf import decode_ocmf, public_key
from oracle.sources.payloads import crc16, decode_dsmr, decode_shelly, decode_tasmota
from oracle.sources.smart_me import decode_devices, decode_push, decode_values
from oracle.sources.tabular import decode_csv, decode_xlsx
from oracle.store import ReadingStore
from oracle.wire import address_bytes, pack_all
from tests.support.community import PAPER
from tests.support.fuzz import all_stand_in, check_items, mutations, run, written_wh
from tests.support.oracle import SLOTS, key, past_period, readings

DATA = Path(__file__).parent / "data"
ZONE = ZoneInfo("Europe/Copenhagen")


def test_dsmr() -> None:
    """One changed bit is seen; only a change outside of the telegram, or none, leaves it as it was."""
    good = (DATA / "dsmr-5.0.2.txt").read_bytes()
    expected = decode_dsmr(good)
    _, taken = run([good], decode_dsmr)
    for message, items in taken:
        assert tuple(items) == expected, message


def test_dsmr_with_a_right_checksum() -> None:
    """The checksum is put right after the change, so that everything behind it is reached."""
    body = (DATA / "dsmr-5.0.2.txt").read_bytes().split(b"!")[0] + b"!"

    def decode(message: bytes) -> Iterable[Item]:
        text = message[message.find(b"/") : message.rfind(b"!") + 1]
        return decode_dsmr(text + f"{crc16(text):04X}".encode())

    _, taken = run([body], decode)
    for message, items in taken:
        (item,) = items
        assert isinstance(item, Sighting)
        # The registers stand in the telegram, as one value or as the sum of two.
        digits = [
            line.split("(")[1].split("*")[0]
            for line in message.decode("latin1").splitlines()
            if line.startswith(("1-0:1.8.", "1-0:2.8."))
        ]
        values = [int(Decimal(text) * 1000) for text in digits]
        possible = {None, *values} | {a + b for a in values for b in values}
        assert {item.import_wh, item.export_wh} <= possible


@pytest.mark.parametrize("name", ["ocmf-keba-p256.ocmf", "ocmf-dzg-secp256k1.ocmf"])
def test_ocmf(name: str) -> None:
    """Nothing counts whose payload is not, byte for byte, what the meter signed."""
    good = (DATA / name).read_bytes()
    keys = {
        serial: public_key(text)
        for serial, text in json.loads((DATA / "ocmf-keys.json").read_bytes()).items()
    }
    payload = good.strip().split(b"|")[1]
    expected = {
        (item.time_ms, item.import_wh)
        for item in decode_ocmf(good, keys)
        if isinstance(item, Sighting)
    }
    _, taken = run([good], lambda message: decode_ocmf(message, keys))
    for message, items in taken:
        assert b"|" + payload + b"|" in message
        assert {
            (item.time_ms, item.import_wh) for item in items if isinstance(item, Sighting)
        } == expected


def test_smart_me_push() -> None:
    """Registers are numbers of eight bytes that stand in the message, in milliwatt-hours."""
    _, taken = run([bytes.fromhex((DATA / "smart-me-push.hex").read_text())], decode_push)
    for message, items in taken:
        numbers = (struct.unpack_from("<d", message, start)[0] for start in range(len(message) - 7))
        possible = {int(number / 1000) for number in numbers if 0 <= number < 1e22}
        assert all_stand_in(items, possible | {None}), message


def test_smart_me_devices() -> None:
    seeds = [(DATA / "smart-me-devices.json").read_bytes()]
    _, taken = run(seeds, decode_devices)
    for message, items in taken:
        assert isinstance(json.loads(message), list)
        assert len(items) <= 4
        assert all_stand_in(items, written_wh(message)), message


def test_smart_me_values() -> None:
    values = b'{"Date": "2026-06-21T11:59:59Z", "CounterReadingUnit": "kWh", "CounterReadingImport": 1.5, "CounterReadingExport": 2}'
    device = "3bd0fce9-9f8e-4183-b3d1-0c1622a22ca1"
    _, taken = run([values], lambda message: decode_values(message, device))
    for message, items in taken:
        assert {item.device for item in items} == {device}
        assert all_stand_in(items, written_wh(message)), message


def test_shelly() -> None:
    _, taken = run([(DATA / "shelly-pro3em.json").read_bytes()], decode_shelly)
    for message, items in taken:
        (item,) = items
        assert isinstance(item, Sighting)
        found = json.loads(message, parse_float=Decimal)["params"]
        registers = next(values for name, values in found.items() if name.startswith("em"))
        assert item.import_wh == int(
            Decimal(registers["total_act" if "total_act" in registers else "total_act_energy"])
        )


def test_tasmota() -> None:
    seeds = [(DATA / "tasmota-sml.json").read_bytes()]

    def decode(message: bytes) -> Iterable[Item]:
        return decode_tasmota(
            message, "m", 1_698_543_000_000, ZONE, "SML.Total_in", "SML.Total_out"
        )

    _, taken = run(seeds, decode)
    for message, items in taken:
        (item,) = items
        assert isinstance(item, Sighting)
        registers = json.loads(message, parse_float=Decimal)["SML"]
        assert item.import_wh == int(Decimal(registers["Total_in"]) * 1000)
        assert item.export_wh == int(Decimal(registers["Total_out"]) * 1000)


def tolerant(decode: Callable[[bytes], Iterable[Item]]) -> Callable[[bytes], Iterable[Item]]:
    """A table whose header does not do is one clear error."""

    def items(message: bytes) -> Iterable[Item]:
        try:
            return list(decode(message))
        except MalformedInput as error:
            return [Refusal("", "file", error.message)]

    return items


REGISTERS = (
    (DATA / "readings.csv").read_bytes(),
    b'meter,time,import_kwh\n"a,b",2026-06-21T12:00:00Z,1.5\nc,2026-06-21 12:15,2\n',
)
ENERGIES = (
    b"meter;start;end;import;export;unit;quality\n"
    b"a;2026-06-21T12:00:00Z;2026-06-21T12:15:00Z;0,125;0;kWh;\n"
    b"a;2026-06-21 14:15;2026-06-21 14:30;250;12,5;Wh;substituted\n",
    b"meter,start,end,import_kwh\na,2026-06-21T12:00:00Z,2026-06-21T12:15:00Z,1.5\n",
)


@pytest.mark.parametrize("seeds", [REGISTERS, ENERGIES], ids=["registers", "energies"])
def test_csv(seeds: tuple[bytes, ...]) -> None:
    _, taken = run(list(seeds), tolerant(lambda message: decode_csv(message, ZONE)))
    for message, items in taken:
        possible = written_wh(message)
        for item in items:
            if isinstance(item, Sighting | IntervalEnergy):
                assert {item.import_wh, item.export_wh} <= possible, message


def workbook() -> bytes:
    book = Workbook()
    for row in (
        ("meter", "time", "import_kwh"),
        ("a", "2026-06-21T12:00:00Z", 1.5),
        ("b", 46194.5, "x"),
    ):
        book.active.append(row)  # type: ignore[union-attr]  # a new workbook has an active sheet
    buffer = BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def test_xlsx() -> None:
    run([workbook()], tolerant(lambda data: decode_xlsx(data, ZONE)))


def test_the_sheet_in_an_xlsx() -> None:
    """A changed archive is seen by its checksum; here the sheet inside is changed, and the checksum is right."""
    with zipfile.ZipFile(BytesIO(workbook())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"

    def rebuilt(text: bytes) -> bytes:
        out = BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, text if name == sheet else data)
        return out.getvalue()

    _, taken = run([files[sheet]], tolerant(lambda text: decode_xlsx(rebuilt(text), ZONE)))
    shared = b" ".join(data for name, data in files.items() if name != sheet)
    for message, items in taken:
        assert all_stand_in(items, written_wh(message + b" " + shared)), message


def test_files_by_line() -> None:
    """A folder's files of lines: each line has its own refusal, with its number."""
    line = json.dumps(json.loads((DATA / "smart-me-devices.json").read_bytes())[0]).encode()
    form = FileFormat()
    lines = list(mutations([line]))
    text = b"\n".join(item.replace(b"\n", b" ").replace(b"\r", b" ") for item in lines)
    items = list(form.decode("x.jsonl", text))
    assert check_items(items)["taken"] < len(items)
    assert all_stand_in(items, written_wh(text))
    assert all(item.row is not None for item in items if isinstance(item, Refusal))


def test_retractions(store: ReadingStore) -> None:
    """One that is changed takes back nothing that its signer did not name: it is refused, or is somebody else's."""
    good = readings(past_period(3), 3)[5].reading
    body = {
        "meter": good.meter,
        "reading_hash": meter_reading_hash(good).hex(),
        "signature": sign_retraction(key("meter", 3), PAPER.domain, good).hex(),
    }
    intake = Intake(store, OwnKeys(), PAPER.domain)
    refused: Counter[str] = Counter()
    for message in mutations([json.dumps(body).encode()]):
        try:
            take_retraction(intake, Retraction.from_data(parse_json(message, "body")))
        except (ReadingRejected, InputError) as error:
            refused[error.code] += 1
    assert len(refused) >= 2
    own = {(row[0], row[1]) for row in store.retractions() if row[0] == row[2]}
    assert own <= {(address_bytes(good.meter), meter_reading_hash(good))}


def test_signed_readings(store: ReadingStore) -> None:
    """Nothing counts that is not, byte for byte, what a registered meter signed."""
    period = past_period(3)
    good = [pack_all([item]) for slot in SLOTS for item in readings(period, slot)[:25]]
    intake = Intake(store, OwnKeys(), PAPER.domain)
    whole: list[bytes] = []
    for message in mutations(good):
        if len(message) % 118:
            with pytest.raises(InputError):
                intake.take(message)
        whole.append((message + bytes(118))[:118])
    for start in range(0, len(whole), 500):
        done = intake.take(b"".join(whole[start : start + 500]), "fuzz")
        for item in done.refused:
            assert item.code
            assert item.reason
    stored = {
        row.packed()
        for row in store.readings(range(period.first_interval - 2, period.first_interval + 100))
    }
    assert stored <= set(good)
    assert store.counts(0, 2**62).keys() <= set(
        range(period.first_interval - 1, period.first_interval + 24)
    )
    assert len(store.rejection_counts()) >= 3
