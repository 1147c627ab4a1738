"""One signer of three sends whatever it likes, at every step: the others make their report all the same."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import requests

from oracle.assembly import Assembly
from oracle.peers import Forwarder, SignerClient, SignerFailed
from oracle.sources.smart_me import SmartMe
from oracle.wire import RECORD_BYTES
from tests.support.fuzz import mutations
from tests.support.oracle import TOKEN, Signer, assembly, packed, past_period, running
from tests.support.raw_http import Handler, answering, body

pytestmark = pytest.mark.xdist_group("hostile")
DEEP = b"[" * 300_000


def drip(connection: socket.socket, path: str) -> None:
    """Headers without end, a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"a")
        time.sleep(0.2)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Signer]]:
    with running(tmp_path_factory.mktemp("honest"), 2) as started:
        yield started


@dataclass
class Wrong:
    """What a wrong signer answers by the end of the path; the rest is empty objects."""

    answers: dict[str, bytes]

    def __call__(self, connection: socket.socket, path: str) -> None:
        step = path.split("?", maxsplit=1)[0].rsplit("/", 1)[-1]
        body(connection, self.answers.get(step, b"{}"))


def draft(**changes: object) -> bytes:
    zero = "0x" + "00" * 32
    data = {"hash": zero, "period": 1, "version": 0, "first_interval": 96, "interval_count": 96}
    data |= {"readings_root": zero, "totals_hash": zero, "config_digest": zero, "leaves": {}}
    return json.dumps(data | changes).encode()


METER = "ab" * 20
MEMBER_RECORD = packed(past_period(3))[:RECORD_BYTES]
WRONG: dict[str, Handler] = {
    "quiet": Wrong({}),
    "no meter": Wrong({"digests": b'{"zz": "00"}'}),
    "list as digest": Wrong({"digests": json.dumps({METER: ["x"]}).encode()}),
    "many meters": Wrong(
        {"digests": json.dumps({f"{n:040x}": "00" * 32 for n in range(20_000)}).encode()}
    ),
    "nobody's readings": Wrong(
        {
            "digests": json.dumps({MEMBER_RECORD[:20].hex(): "00" * 32}).encode(),
            "readings": MEMBER_RECORD[:-65] + bytes(65),
        }
    ),
    "other readings": Wrong(
        {"digests": json.dumps({METER: "00" * 32}).encode(), "readings": MEMBER_RECORD}
    ),
    "too many readings": Wrong(
        {"digests": json.dumps({METER: "00" * 32}).encode(), "readings": bytes(118 * 5000)}
    ),
    "retraction of nothing": Wrong(
        {
            "digests": json.dumps({METER: "00" * 32}).encode(),
            "retractions": b'[{"meter": "!", "reading_hash": "!", "signature": "!"}]',
        }
    ),
    "numbers as retractions": Wrong(
        {"digests": json.dumps({METER: "00" * 32}).encode(), "retractions": b"[1, [], null]"}
    ),
    "negative slot": Wrong({"draft": draft(leaves={"-5": "00" * 32})}),
    "huge slot": Wrong(
        {"draft": draft(first_interval=-96, interval_count=2**300, leaves={"99999999999": "00"})}
    ),
    "time is text": Wrong({"health": b'{"time": "x"}', "draft": b'{"leaves": 5}'}),
    "deep": lambda connection, path: body(connection, DEEP),
    "deep error": lambda connection, path: body(connection, DEEP, "400 Bad"),
    "bad redirect": lambda connection, path: body(
        connection, b"", "302 Found\r\nLocation: http://[::1"
    ),
    "no http": lambda connection, path: connection.sendall(b"\xff\0\r\n\r\n"),
    "cut off": lambda connection, path: connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab"
    ),
    "chunks": lambda connection, path: connection.sendall(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_k_honest_signers_report_whatever_the_other_sends(honest: list[Signer], name: str) -> None:
    """The second honest one lacks readings that only the exchange brings."""
    number = 4 + [*WRONG].index(name) % 14
    period = past_period(number)
    data = packed(period)
    honest[0].send(data)
    honest[1].send(data[: RECORD_BYTES * 200])
    with answering(WRONG[name]) as url:
        made = assembly(honest, 20)
        made.clients = [SignerClient(url, TOKEN, 10), *made.clients]
        found = made.report(period.number)
    assert len(found.signatures) == 2
    assert set(found.failures) == {url}
    assert all(item.quality == 0 for slot in found.slots.values() for item in slot.readings())


def test_one_that_drips_headers_is_waited_for_as_long_as_was_said() -> None:
    with answering(drip) as url:
        began = time.monotonic()
        with pytest.raises(SignerFailed, match="does not answer: TimeoutError"):
            SignerClient(url, TOKEN, 1).get("/health")
        assert time.monotonic() - began < 30


def test_forwarding_to_one_that_drips_holds_nobody_up(honest: list[Signer]) -> None:
    data = packed(past_period(19))
    with answering(drip) as slow:
        forward = Forwarder([SignerClient(slow, TOKEN, 3600), honest[0].client])
        for _ in range(300):
            forward(data[:RECORD_BYTES])
        deadline = time.monotonic() + 30
        while not honest[0].send(data[:RECORD_BYTES])["known"]:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("name", ["bad redirect", "deep", "no http", "cut off", "chunks"])
def test_a_source_that_answers_nonsense_is_a_connection_that_does_not_work(name: str) -> None:
    with answering(WRONG[name]) as url:
        assert not SmartMe(None, url).test_connection().works
    assert not SmartMe(None, "http://[::1").test_connection().works


def random_answers(seed: int) -> Handler:
    """Broken answers of every step, and broken headers, without end."""
    chance = random.Random(seed)
    record = packed(past_period(3))[:RECORD_BYTES]
    seeds = [
        json.dumps({METER: "00" * 32, record[:20].hex(): "11" * 32}).encode(),
        json.dumps([{"meter": METER, "reading_hash": "00" * 32, "signature": "00" * 65}]).encode(),
        draft(),
        draft(leaves={"3": "00" * 32}, first_interval=2**63),
        json.dumps({"signature": "0x" + "00" * 65, "time": 1.5, "hash": "0x"}).encode(),
        b'{"error": {"code": "x", "message": "no", "remedy": 5}}',
        record * 3,
    ]
    broken = mutations(seeds, 100_000)
    lock = threading.Lock()

    def handle(connection: socket.socket, path: str) -> None:
        with lock:
            data = next(broken)
            code = chance.choice(["200 OK"] * 8 + ["302 F\r\nLocation: http://[", "500 X", "999 Y"])
        body(connection, data, code)

    return handle


@pytest.mark.parametrize("seed", range(3))
def test_no_answer_of_one_is_an_error_of_the_asker(honest: list[Signer], seed: int) -> None:
    """Only signers that fuzz: whatever they send, each step ends, and books it to whoever sent it."""
    config = honest[0].config
    number = past_period(3).number
    with answering(random_answers(seed)) as one, answering(random_answers(seed + 100)) as other:
        clients = [SignerClient(url, TOKEN, 10) for url in (one, other)]
        made = Assembly(clients, config.domain, config.committee(number), 20)
        for _ in range(60):
            made.failures.clear()
            made.compare_clocks()
            made.exchange(number)
            drafts = made._all(lambda client: made._draft(client, number, 0))
            assert drafts == {}
            assert set(made.failures) == {one, other}
            assert all(made.failures.values())


class TestWithoutToken:
    @pytest.mark.parametrize(
        "path", ["/retractions", "/periods/9/readings", "/periods/9/0/confirm"]
    )
    def test_deep_json_ends_no_process(self, honest: list[Signer], path: str) -> None:
        for token, status in ("", 401), (TOKEN, 422):
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
            answer = requests.post(honest[0].url + path, headers=headers, data=DEEP, timeout=30)
            assert answer.status_code == status
            assert {"code", "message", "remedy"} <= set(answer.json()["error"])
        assert honest[0].process is not None
        assert honest[0].process.poll() is None

    def test_the_token_is_looked_at_before_the_body(self, honest: list[Signer]) -> None:
        """The body never comes, and the answer does."""
        with socket.create_connection(("127.0.0.1", honest[0].port), 30) as connection:
            connection.sendall(
                b"POST /retractions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000\r\n\r\n"
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 401")

    def test_every_refusal_has_one_form(self, honest: list[Signer]) -> None:
        header = {"Authorization": f"Bearer {TOKEN}"}
        number = past_period(3).number
        for method, path, data, status in (
            ("GET", "/nowhere", b"", 404),
            ("PUT", "/health", b"", 405),
            ("GET", "/periods/x/digests", b"", 422),
            ("GET", "/periods/-5/digests", b"", 422),
            ("GET", f"/periods/{number}/{2**40}/draft", b"", 422),
            ("POST", f"/periods/{number}/{2**70}/confirm", b"{}", 422),
            ("GET", f"/periods/{number}/0/vectors?report={'00' * 32}&slots={'9' * 5000}", b"", 422),
            ("POST", "/retractions", b'{"meter": 1}', 422),
            ("POST", "/retractions", b" " * (1024 * 1024 + 1), 413),
        ):
            answer = requests.request(
                method, honest[0].url + path, headers=header, data=data, timeout=30
            )
            assert answer.status_code == status, path
            assert {"code", "message", "remedy"} <= set(answer.json()["error"]), path
        lines = honest[0].log.splitlines()
        assert [line for line in lines if not line.startswith("{")] == []


class TestReload:
    def test_what_failed_once_is_tried_again_and_a_new_token_counts(
        self, honest: list[Signer]
    ) -> None:
        """The password is gone while the configuration changes, and then comes back; nothing else changes any more."""
        signer = honest[1]
        health = signer.url + "/health"

        def wait_for(done: Callable[[], bool]) -> None:
            deadline = time.monotonic() + 60
            while not done():
                assert time.monotonic() < deadline, signer.log
                time.sleep(0.2)

        password = signer.folder / "password"
        text, taken = password.read_text(), signer.log.count('"configuration taken over"')
        password.write_text("wrong")
        signer.change(correction_days=19)
        wait_for(lambda: requests.get(health, timeout=10).json()["status"] == "failing")
        assert "watch" in requests.get(health, timeout=10).json()["faults"]
        password.write_text(text)
        wait_for(lambda: signer.log.count('"configuration taken over"') > taken)
        wait_for(lambda: requests.get(health, timeout=10).json()["status"] == "ok")
        (signer.folder / "token").write_text("another token")
        path = signer.url + "/retractions"
        for token, status in ("another token", 200), (TOKEN, 401):
            header = {"Authorization": f"Bearer {token}"}
            wait_for(
                lambda header=header, status=status: (  # type: ignore[misc]
                    requests.get(path, headers=header, timeout=10).status_code == status
                )
            )
        (signer.folder / "token").write_text(TOKEN)
