"""Against a real Mosquitto: what is not on disk is not acknowledged, and comes again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from zoneinfo import ZoneInfo

import pytest

from backend.domain.errors import MalformedInput, SourceUnavailable
from oracle.sources.base import Delivery, Refusal, Sighting
from oracle.sources.mqtt import Mqtt, Subscription
from tests.support.broker import Broker, free_port

DATA = Path(__file__).parent / "data"
UTC = ZoneInfo("UTC")
SUBSCRIPTIONS = (
    Subscription("tele/+/SENSOR", "tasmota", UTC, "SML.Total_in", "SML.Total_out"),
    Subscription("+/events/rpc", "shelly"),
    Subscription("dsmr/telegram", "dsmr"),
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker.in_folder(tmp_path)
    made.start()
    yield made
    made.stop()


def source(broker: Broker, client_id: str = "oracle") -> Mqtt:
    return Mqtt("127.0.0.1", broker.port, SUBSCRIPTIONS, client_id)


def tasmota(second: int) -> tuple[str, bytes]:
    message = {"Time": f"2026-06-21T12:00:{second:02}", "SML": {"Total_in": second, "Total_out": 0}}
    return "tele/house-1/SENSOR", json.dumps(message).encode()


def collect(deliveries: Iterator[Delivery], count: int, *, acknowledge: bool) -> list[object]:
    """At least `count` items."""
    items: list[object] = []
    while len(items) < count:
        delivery = next(deliveries)
        items += delivery.items
        if acknowledge:
            delivery.acknowledge()
    return items


def registers(items: list[object]) -> list[int | None]:
    return [item.import_wh for item in items if isinstance(item, Sighting)]


def test_every_payload(broker: Broker) -> None:
    stop = Event()
    deliveries = source(broker).deliveries(stop)
    session = source(broker)
    assert session.test_connection().works
    # The session exists from the first connection on.
    stop.set()
    assert list(deliveries) == []
    broker.publish(
        [
            tasmota(1),
            ("shellypro3em-1/events/rpc", (DATA / "shelly-pro3em.json").read_bytes()),
            ("dsmr/telegram", (DATA / "dsmr-5.0.2.txt").read_bytes()),
            ("tele/house-1/SENSOR", b"{broken"),
            ("else/where", b"passed over"),
        ]
    )
    stop.clear()
    deliveries = source(broker).deliveries(stop)
    items = collect(deliveries, 4, acknowledge=True)
    assert {item.device for item in items if isinstance(item, Sighting)} == {
        "house-1",
        "shellypro3em-1234567890ab/emdata:0",
        "4B384547303034303436333935353037",
    }
    assert [item.code for item in items if isinstance(item, Refusal)] == ["format"]
    deliveries.close()  # type: ignore[attr-defined]


def test_what_was_not_acknowledged_comes_again(broker: Broker) -> None:
    open_session(broker)
    broker.publish([tasmota(second) for second in range(10)])
    first = source(broker).deliveries(Event())
    assert sorted(registers(collect(first, 10, acknowledge=False))) == [n * 1000 for n in range(10)]
    first.close()  # type: ignore[attr-defined]
    second = source(broker).deliveries(Event())
    assert set(registers(collect(second, 10, acknowledge=True))) == {n * 1000 for n in range(10)}
    second.close()  # type: ignore[attr-defined]
    broker.publish([tasmota(59)])
    # An acknowledgement can be lost with the connection; then the message comes once more, which does no harm.
    third = source(broker).deliveries(Event())
    items: list[object] = []
    while 59_000 not in registers(items):
        items += collect(third, 1, acknowledge=True)
    third.close()  # type: ignore[attr-defined]


def open_session(broker: Broker) -> None:
    """Subscribes once, so that the broker keeps what is published from then on."""
    stop = Event()
    stop.set()
    assert list(source(broker).deliveries(stop)) == []


def test_a_broker_that_stops_and_comes_back_loses_nothing(broker: Broker) -> None:
    open_session(broker)
    broker.publish([tasmota(1), tasmota(2)])
    broker.stop()
    with pytest.raises(SourceUnavailable):
        next(source(broker).deliveries(Event()))
    broker.start()
    deliveries = source(broker).deliveries(Event())
    assert registers(collect(deliveries, 2, acknowledge=True)) == [1000, 2000]
    broker.stop()
    with pytest.raises(SourceUnavailable, match="closed the connection"):
        next(deliveries)
    broker.start()
    broker.publish([tasmota(3)])
    deliveries = source(broker).deliveries(Event())
    assert registers(collect(deliveries, 1, acknowledge=True))[-1] == 3000
    deliveries.close()  # type: ignore[attr-defined]


def test_no_broker() -> None:
    tested = Mqtt("127.0.0.1", free_port(), SUBSCRIPTIONS, "oracle").test_connection()
    assert not tested.works
    assert "cannot be reached" in tested.detail


def test_a_broker_that_wants_other_credentials(tmp_path: Path) -> None:
    broker = Broker.in_folder(tmp_path)
    text = (
        (tmp_path / "mosquitto.conf")
        .read_text()
        .replace("allow_anonymous true", "allow_anonymous false")
    )
    (tmp_path / "mosquitto.conf").write_text(text)
    broker.start()
    try:
        tested = Mqtt(
            "127.0.0.1", broker.port, SUBSCRIPTIONS, "oracle", "user", "geheim"
        ).test_connection()
    finally:
        broker.stop()
    assert not tested.works
    assert "refuses the connection" in tested.detail
    assert "geheim" not in tested.detail


def test_an_unknown_payload() -> None:
    with pytest.raises(MalformedInput):
        Mqtt("127.0.0.1", 1, (Subscription("x", "xml"),), "oracle")
