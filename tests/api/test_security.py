"""Hostile requests: each gets a refusal that says what to do, and nothing else."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from backend.api.limits import RateLimiter
from backend.api.settings import WebSettings
from backend.api.views.own_data import table
from backend.domain.errors import TooManyRequests
from backend.web_commands import application
from tests.support.demo_site import ORIGIN, DemoWorld

HERE = "/api/v1/communities/demo"


def test_every_answer_carries_the_security_headers(world: DemoWorld) -> None:
    for path in ("/api/v1/communities", "/api/v1/none", HERE + "/members/3/today", "/", "/nowhere"):
        headers = world.anybody().get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy and "http:" not in policy and "*" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"


def test_private_answers_are_kept_by_nobody_else(world: DemoWorld) -> None:
    answer = world.signed_in("member").get(HERE + "/members/3/today")
    assert "private" in answer.headers["cache-control"]
    assert "public" not in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver:81"},
        {"Origin": "http://testserver.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": ORIGIN},
    ],
)
def test_a_write_that_another_site_made_the_browser_send_is_refused(
    headers: dict[str, str], world: DemoWorld
) -> None:
    browser = world.signed_in("member")
    path = HERE + "/members/3/erasures"
    body = {"before_period": 0, "confirm": "erase my data"}
    refused = browser.post(path, json=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "web.cross_site")
    assert browser.post(path, json=body, headers={"Origin": ORIGIN}).status_code == 200
    signing = browser.post(
        "/api/v1/session", json={"message": "x", "signature": "0x00"}, headers=headers
    )
    assert signing.json()["code"] == "web.cross_site"


HOSTILE = [
    "' OR '1'='1",
    "3; DROP TABLE wish;--",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "{{7*7}}",
    "9" * 400,
    "-1",
    "\u202e",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_paths_and_queries_changes_and_shows_nothing(
    text: str, world: DemoWorld
) -> None:
    browser = world.signed_in("member")
    given = quote(text, safe="%")
    before = rows(world)
    for path in (
        f"/api/v1/communities/{given}/me",
        f"{HERE}/members/{given}/today",
        f"{HERE}/members/3/days/{given}",
        f"{HERE}/members/3/savings/{given}",
        f"{HERE}/members/3/trades?period={given}",
        f"{HERE}/batches/{given}/bundle",
        f"{HERE}/members/3/statements/{given}/pdf",
    ):
        answer = browser.get(path)
        assert 400 <= answer.status_code < 500, path
        assert "<script" not in answer.text and "<img" not in answer.text
        assert "root:" not in answer.text
        assert "Traceback" not in answer.text and "sqlalchemy" not in answer.text
    assert rows(world) == before


def test_hostile_text_in_bodies_is_refused_and_not_repeated(world: DemoWorld) -> None:
    browser = world.signed_in("member")
    for text in HOSTILE:
        answer = browser.post(
            f"{HERE}/members/3/wishes",
            json={"number": text, "wishes": {"refused": [text]}, "signature": text},
        )
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(text) < 3 or text not in answer.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"message": NaN}',
        b'{"a":1}' * 1000,
        b"\xff\xfe",
        b"null",
        b"[]",
    ],
)
def test_a_body_that_is_not_what_it_should_be_is_refused(content: bytes, world: DemoWorld) -> None:
    answer = world.anybody().post(
        "/api/v1/session", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.json()["remedy"]


def test_static_files_stay_in_their_folder(world: DemoWorld) -> None:
    for path in (
        "/static/../pages.py",
        "/static/%2e%2e/pages.py",
        "/static/..%2f..%2fcli.py",
        "//etc/passwd",
    ):
        answer = world.anybody().get(path)
        assert 400 <= answer.status_code < 500, (path, answer.status_code)
        assert "from __future__" not in answer.text


def test_oversized_bodies_are_refused_before_anybody_reads_them(world: DemoWorld) -> None:
    limit = world.app.state.web.settings.body_limit_bytes
    browser = world.signed_in("member")
    stated = browser.post("/api/v1/session", content=b"x" * (limit + 1))
    assert (stated.status_code, stated.json()["code"]) == (413, "web.too_large")

    def endless() -> Any:
        for _ in range(2 * limit // 65_536):
            yield b" " * 65_536

    streamed = browser.post(f"{HERE}/members/3/wishes", content=endless())
    assert (streamed.status_code, streamed.json()["code"]) == (413, "web.too_large")


def test_requests_that_come_too_fast_are_told_when_to_come_again(world: DemoWorld) -> None:
    app = application(
        {"demo": world.site}, WebSettings(ORIGIN, requests_per_minute=30, sign_ins_per_minute=3)
    )
    browser = TestClient(app, base_url=ORIGIN)
    browser.cookies.set("peerwatt_session", "somebody")
    found = [browser.get("/api/v1/communities").status_code for _ in range(40)]
    assert found.count(200) == 30
    refused = browser.get("/api/v1/communities")
    assert (refused.status_code, refused.json()["code"]) == (429, "web.too_many_requests")
    assert int(refused.headers["retry-after"]) >= 1
    fresh = TestClient(app, base_url=ORIGIN)
    body = {"message": "x", "signature": "0x00"}
    codes = [fresh.post("/api/v1/session", json=body).status_code for _ in range(5)]
    assert codes == [401, 401, 401, 429, 429]


def test_a_bucket_fills_again_evenly() -> None:
    time = [0.0]
    limiter = RateLimiter(60, lambda: time[0])
    for _ in range(60):
        limiter.take("a")
    with pytest.raises(TooManyRequests) as refused:
        limiter.take("a")
    assert refused.value.wait_seconds <= 2
    limiter.take("b")
    time[0] += 1
    limiter.take("a")
    with pytest.raises(TooManyRequests):
        limiter.take("a")


def test_a_fault_of_ours_tells_its_kind_and_no_more(
    world: DemoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(site: object) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr("backend.api.views.auditor.audit_periods", broken)
    browser = TestClient(world.app, base_url=ORIGIN, raise_server_exceptions=False)
    answer = browser.get(HERE + "/batches")
    assert answer.status_code == 500
    assert "swordfish" not in answer.text
    assert "RuntimeError" in answer.json()["detail"]


def test_a_table_is_no_program_for_a_spreadsheet() -> None:
    made = table(("name",), [("=HYPERLINK(1)",), ("-5",), ("@SUM(1)",), ("plain",)]).decode()
    assert made.splitlines() == ["name", "'=HYPERLINK(1)", "-5", "'@SUM(1)", "plain"]


def test_logs_hold_no_secret(world: DemoWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "peerwatt")
    client = world.client("member")
    token = str(client.token)
    client.today(3)
    world.anybody().get(HERE + "/members/3/today", headers={"Authorization": f"Bearer {token}x"})
    assert token not in caplog.text
    assert not re.search(r"0x[0-9a-f]{130}", caplog.text)


def rows(world: DemoWorld) -> dict[str, int]:
    from sqlalchemy import inspect, text

    with world.site.ledger.engine.connect() as connection:
        names = inspect(connection).get_table_names()
        return {
            name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()
            for name in names
        }
