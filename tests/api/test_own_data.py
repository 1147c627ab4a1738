"""A member's data as files, its export and its erasure."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from decimal import Decimal

import pytest
from eth_hash.auto import keccak
from pypdf import PdfReader

from backend.api.client import ApiProblem
from backend.api.wishes import Wishes
from backend.operator.erasure import erase_member
from backend.settlement.encoding import readings_leaf
from tests.support.demo_site import DemoWorld, running_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoWorld]:
    """Its own: what happens here, other tests do not see."""
    with running_world(tmp_path_factory.mktemp("demo")) as found:
        yield found


def test_a_table_adds_up_to_the_statement(world: DemoWorld) -> None:
    client = world.client("member")
    rows = list(csv.DictReader(io.StringIO(client.statement_csv(3, world.first).decode())))
    statement = client.statement(3, world.first)
    total = sum(Decimal(row["amount"]) for row in rows)
    assert int(total * 10**9) == statement.summary.due_nano
    assert sum(int(row["import_wh"]) for row in rows) == statement.day.totals.import_wh
    assert {row["currency"] for row in rows} == {"EUR"}


def test_a_statement_on_paper_names_day_and_amount(world: DemoWorld) -> None:
    client = world.client("member")
    pages = PdfReader(io.BytesIO(client.statement_pdf(3, world.first))).pages
    text = " ".join(page.extract_text() for page in pages)
    due = Decimal(client.statement(3, world.first).summary.due_nano) / 10**9
    assert "2016-06-29" in text
    assert f"{abs(due):.2f}" in text
    assert client.statement_pdf(3, world.first + 1).startswith(b"%PDF")


def test_a_proof_is_what_the_batch_commits_to(world: DemoWorld) -> None:
    found = world.client("member").proof(3, 1)
    assert "0x" + keccak(found.personal.encode()).hex() == found.personal_hash
    part = json.loads(found.personal)
    item = world.run.prepared[0].batch.member_periods[3]
    readings, salt = (bytes.fromhex(part[name][2:]) for name in ("readings", "readings_salt"))
    assert readings_leaf(3, readings, salt) == item.leaf()


def test_what_another_process_erases_is_gone_here_too(
    world: DemoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, store = world.client("member", 5), world.site.bundles.store
    assert client.statement(8, world.first).summary.slot == 8
    assert erase_member(world.site.cycle, store, 8, world.first + 1) == 1
    monkeypatch.setattr("backend.api.site._FORGET_SECONDS", 0.0)
    world.site.changed()
    with pytest.raises(ApiProblem, match="no such statement"):
        client.statement(8, world.first)
    assert client.me().slots == (8,)


def test_readings_keep_both_directions(world: DemoWorld) -> None:
    client = world.client("member")
    found = list(client.readings(3, world.first))
    told = world.run.prepared[0].batch.member_periods[3].readings
    assert [(item.import_wh, item.export_wh) for item in found] == [
        (item.import_wh, item.export_wh) for item in told
    ]
    assert [item.interval for item in client.intervals(3, world.first)] == [
        item.interval for item in found
    ]


def test_export_and_erasure(world: DemoWorld) -> None:
    """The last member takes its data along and has them erased; everybody else's stay, and so does the chain's verdict."""
    index = len(world.site.participants()) - 1
    slot = index + 3
    client, key = world.client("member", index), world.wallet("member", index)
    client.wish(slot, Wishes(automatic=False, buy_limit_nano_per_wh=250_000), key)
    with zipfile.ZipFile(io.BytesIO(client.export(slot))) as archive:
        own = json.loads(archive.read("own-data.json"))
        assert own["format"] == "peerwatt/own-data/1"
        assert own["slot"] == slot
        assert own["wishes"][0]["wishes"]["buy_limit_nano_per_wh"] == 250_000
        part = json.loads(archive.read(f"bundles/1/personal/{slot}.json"))
        statement = json.loads(archive.read("statements/2016-06-29-v0.json"))
        assert part["amount_nano"] == statement["summary"]["amount_nano"]
        others = [name for name in archive.namelist() if "personal/" in name]
        assert all(name.endswith(f"/{slot}.json") for name in others)
    neighbour = world.client("member", 0)
    before = neighbour.day(3, world.first)
    done = client.erase(slot, world.first + 1)
    assert done.batches == 1
    assert client.erase(slot, world.first + 1).batches == 0
    assert [item.kind for item in client.statements(slot) if item.period == world.first] == []
    assert client.wishes(slot).number == 0
    assert neighbour.day(3, world.first) == before
    with zipfile.ZipFile(io.BytesIO(client.export(slot))) as archive:
        assert f"bundles/1/personal/{slot}.json" not in archive.namelist()
    verdict = world.client("auditor").verdict(1)
    assert not [check for check in (*verdict.community, *verdict.checks) if check.passed is False]


def test_days_that_are_not_final_are_not_erased(world: DemoWorld) -> None:
    world.until(25)
    answer = world.signed_in("member").post(
        "/api/v1/communities/demo/members/3/erasures",
        json={"before_period": world.site.running_period().number + 1, "confirm": "erase my data"},
    )
    assert answer.status_code == 422
    assert "final" in answer.json()["detail"]
    assert world.client("member").statement(3, world.first)
