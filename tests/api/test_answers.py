"""What surrounds all JSON: ETags, idempotency keys, pages, problems, times, events, the typed client."""

from __future__ import annotations

import inspect
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
import uvicorn

from backend.api.client import ApiClient, ApiProblem
from backend.api.settings import WebSettings
from backend.web_commands import application
from tests.support.demo_site import DemoWorld, wait_for

HERE = "/api/v1/communities/demo"


def test_what_has_not_changed_is_not_sent_again(world: DemoWorld) -> None:
    browser = world.signed_in("member")
    for path in (
        "/members/3/today",
        f"/members/3/statements/{world.first}",
        "/batches",
        "/members",
    ):
        first = browser.get(HERE + path)
        tag = first.headers["etag"]
        again = browser.get(HERE + path, headers={"If-None-Match": f'"other", W/{tag}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        other = browser.get(HERE + path, headers={"If-None-Match": '"other"'})
        assert other.content == first.content
    assert "etag" not in browser.get(HERE + "/members/4/today").headers


def test_the_tag_changes_with_the_day(world: DemoWorld) -> None:
    browser = world.signed_in("member")
    before = browser.get(HERE + "/members/3/today").headers["etag"]
    world.until(world.hours + 0.5)
    assert browser.get(HERE + "/members/3/today").headers["etag"] != before


def test_a_write_that_comes_again_is_answered_as_before(world: DemoWorld) -> None:
    browser = world.signed_in("coordinator")
    path = HERE + "/coordinator/preview"
    first = browser.post(path, headers={"Idempotency-Key": "once"})
    again = browser.post(path, headers={"Idempotency-Key": "once"})
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = browser.post(HERE + "/coordinator/run", headers={"Idempotency-Key": "once"})
    assert (other.status_code, other.json()["code"]) == (409, "web.key_reused")
    bad = browser.post(path, headers={"Idempotency-Key": "no spaces please"})
    assert (bad.status_code, bad.json()["field"]) == (422, "Idempotency-Key")


def test_a_key_is_its_callers_own(world: DemoWorld) -> None:
    body = {"before_period": 0, "confirm": "erase my data"}
    for index in (0, 1):
        browser = world.signed_in("member", index)
        path = f"{HERE}/members/{3 + index}/erasures"
        answer = browser.post(path, json=body, headers={"Idempotency-Key": "shared"})
        assert answer.json()["slot"] == 3 + index
        assert "idempotent-replayed" not in answer.headers
    # What is refused is not kept: the wrong person does not get the right one's answer either.
    wrong = world.signed_in("member", 1).post(
        f"{HERE}/members/3/erasures", json=body, headers={"Idempotency-Key": "another"}
    )
    assert wrong.status_code == 403


def test_pages_follow_each_other(world: DemoWorld) -> None:
    browser = world.signed_in("member")
    whole = browser.get(f"{HERE}/members/3/readings?period={world.first}&limit=1000").json()
    found: list[Any] = []
    after: int | None = 0
    while after is not None:
        part = browser.get(
            f"{HERE}/members/3/readings?period={world.first}&after={after}&limit=40"
        ).json()
        found += part["items"]
        after = part["next"]
    assert found == whole["items"]
    assert whole["total"] == 96
    for query in ("limit=0", "limit=1001", "after=-1", "limit=x"):
        refused = browser.get(f"{HERE}/members/3/readings?period={world.first}&{query}")
        assert refused.status_code == 422


def test_problems_have_code_remedy_and_type(world: DemoWorld) -> None:
    browser = world.signed_in("member")
    for path, status, code in (
        ("/api/v1/nowhere", 404, "web.not_there"),
        ("/api/v1/communities/other/me", 404, "web.not_there"),
        (f"{HERE}/batches/77", 404, "input.unknown_reference"),
        (f"{HERE}/clearings/1", 404, "web.not_there"),
        (f"{HERE}/members/3/days/99999999999", 422, "input.out_of_range"),
    ):
        answer = browser.get(path)
        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["remedy"] and problem["detail"] and problem["title"]
    method = browser.put(HERE + "/me")
    assert (method.status_code, method.json()["code"]) == (405, "web.method")
    assert method.headers["allow"] == "GET"


def test_times_carry_the_communitys_offset(world: DemoWorld) -> None:
    site = world.site
    try:
        site.zone, site.time_zone = ZoneInfo("Europe/Copenhagen"), "Europe/Copenhagen"
        start = site.interval_start(site.rules.period(world.first).first_interval)
        assert start.isoformat() == "2016-06-29T02:00:00+02:00"
        assert site.moment(1_451_606_400).isoformat() == "2016-01-01T01:00:00+01:00"
    finally:
        site.zone, site.time_zone = ZoneInfo("UTC"), "UTC"
    found = world.client("member").day(3, world.first)
    assert found.time_zone == "UTC"
    assert isinstance(found.intervals[0].start, datetime)
    assert found.intervals[0].start.utcoffset() is not None


# --- The typed client, over a real connection -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def origin(world: DemoWorld) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = f"http://127.0.0.1:{port}"
    config = uvicorn.Config(
        application({"demo": world.site}, WebSettings(made)),
        host="127.0.0.1",
        port=port,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert wait_for(lambda: server.started)
    yield made
    server.should_exit = True
    thread.join(10)


def test_the_client_reads_everything_as_it_was_made(world: DemoWorld, origin: str) -> None:
    member = ApiClient(origin, "demo")
    member.sign_in(world.wallet("member"))
    assert member.me().slots == (3,)
    assert member.today(3).slot == 3
    assert member.savings(3, "2016-06").totals.saved_nano > 0
    assert sum(1 for _ in member.trades(3, world.first)) == sum(
        3 in (trade.seller_slot, trade.buyer_slot) for trade in world.run.prepared[0].batch.trades
    )
    assert member.partners(3, world.first).items
    assert member.members().count == len(world.site.participants())
    assert member.clearing(world.first).totals.traded_wh == world.day["totals"]["traded_wh"]
    assert member.network(world.first).places
    assert [item.number for item in member.batches()][-1] == 1
    assert json.loads(member.bundle(1))["format"] == "peerwatt/bundle/2"
    assert member.batch(1).batch.number == 1
    assert member.tariffs()[0].announced
    with pytest.raises(ApiProblem) as refused:
        member.overview()
    assert (refused.value.status, refused.value.code) == (403, "web.not_permitted")
    member.sign_out()
    with pytest.raises(ApiProblem, match="nobody has signed in"):
        member.today(3)
    coordinator = ApiClient(origin, "demo")
    coordinator.sign_in(world.wallet("coordinator"))
    assert coordinator.overview().running == world.site.running_period().number
    assert coordinator.completeness(1).periods
    assert any(item.state == "stated" for item in coordinator.periods())
    assert coordinator.position(world.first).buy_wh == world.day["totals"]["imported_wh"]
    assert coordinator.exceptions() is not None
    assert len(list(coordinator.accounts())) == len(world.site.participants())
    assert coordinator.keys().threshold == 2
    assert coordinator.health().checks
    assert coordinator.pairs(world.first).items
    assert coordinator.run().failures == ()
    assert coordinator.preview().period == world.site.running_period().number
    operator = ApiClient(origin, "demo")
    operator.sign_in(world.wallet("dso"))
    assert operator.fees().periods[-1].fees_nano == world.day["totals"]["fees_nano"]
    assert operator.flows(world.first).edges
    assert operator.limits(world.first).nodes
    auditor = ApiClient(origin, "demo")
    auditor.sign_in(world.wallet("auditor"))
    assert auditor.evidence(1).startswith(b"PK")


def test_a_site_that_is_not_there_is_an_error_of_ours() -> None:
    with pytest.raises(Exception, match="does not answer") as failed:
        ApiClient("http://127.0.0.1:9", "demo").communities()
    assert failed.value.code == "chain.node_unreachable"  # type: ignore[attr-defined]


def test_every_route_has_a_method_of_the_client(world: DemoWorld) -> None:
    """By path, so that a new route is not forgotten; what moves money is for browsers and their wallets."""
    source = inspect.getsource(ApiClient)
    browsers = ("/relayed/", "/withdrawals", "/announcements", "/deposits", "/departures", "/memberships", "demo-wallets", "/batches/{number}/evidence", "/batches/{number}/challenges")  # fmt: skip
    paths = [path for path in world.app.openapi()["paths"] if path.startswith("/api/")]
    assert len(paths) > 40
    for path in paths:
        if (
            (any(part in path for part in browsers) and "/members/" in path)
            or "memberships" in path
            or "demo-wallets" in path
        ):
            continue
        last = [part for part in path.split("/") if part and "{" not in part][-1]
        assert last in source, path


def test_live_views_are_told_when_the_day_goes_on(world: DemoWorld, origin: str) -> None:
    client = ApiClient(origin, "demo")
    client.sign_in(world.wallet("member"))
    told: list[dict[str, Any]] = []

    def listen() -> None:
        for news in client.events():
            told.append(news)
            if len(told) == 2:
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert wait_for(lambda: len(told) == 1)
    world.until(world.hours + 0.5)
    listener.join(20)
    assert len(told) == 2
    assert told[1]["interval"] > told[0]["interval"]
    assert set(told[1]) == {"period", "interval", "batch", "standing"}


def test_a_stream_ends_with_its_session(world: DemoWorld, origin: str) -> None:
    client = ApiClient(origin, "demo")
    client.sign_in(world.wallet("member"))
    head = {"Authorization": f"Bearer {client.token}"}
    nobody = requests.get(f"{origin}{HERE}/events", timeout=5)
    assert nobody.status_code == 401
    with requests.get(f"{origin}{HERE}/events", headers=head, stream=True, timeout=20) as stream:
        lines = stream.iter_lines()
        assert next(lines) == b"retry: 3000"
        client.sign_out()
        time.sleep(0.1)
        # Looked at after every change.
        world.until(world.hours + 0.5)
        assert len(list(lines)) < 30
