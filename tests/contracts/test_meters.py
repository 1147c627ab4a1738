"""Which key signs for which member's meter."""

from __future__ import annotations

import pytest

from backend.domain.community import FIRST_MEMBER_SLOT
from tests.support.chain import answer, said
from tests.support.community import FIRST_INTERVAL, LiveCommunity, account

MEMBER = FIRST_MEMBER_SLOT
FOR_EVER = 2**64 - 1


def meters(community: LiveCommunity, count: int = 2) -> list[str]:
    return [member.meter for member in community.paper.members[:count]]


@pytest.fixture
def activated(community: LiveCommunity) -> LiveCommunity:
    call = community.contracts.activate_meters(
        meters(community), [MEMBER, MEMBER + 1], FIRST_INTERVAL
    )
    community.send(call)
    return community


def test_a_meter_is_activated_for_a_slot(activated: LiveCommunity) -> None:
    for number, meter in enumerate(meters(activated)):
        record = activated.functions("MeterRegistry").meterAt(meter).call()
        assert tuple(record) == (MEMBER + number, FIRST_INTERVAL, FOR_EVER)
    assert activated.events("MeterRegistry", "MeterActivated")[0] == {
        "meter": meters(activated)[0],
        "slot": MEMBER,
        "fromInterval": FIRST_INTERVAL,
    }


def test_a_meter_serves_one_slot_once(activated: LiveCommunity) -> None:
    """Not even after it was revoked: the slot of an old reading must stay clear."""
    meter = meters(activated)[0]
    again = activated.contracts.activate_meters([meter], [MEMBER + 1], FIRST_INTERVAL + 9)
    assert activated.refused(again, "deployer") == ("MeterInUse", meter.lower(), MEMBER)
    activated.send(activated.contracts.revoke_meter(meter, FIRST_INTERVAL + 4))
    assert activated.refused(again, "deployer") == ("MeterInUse", meter.lower(), MEMBER)


def test_a_member_may_have_two(activated: LiveCommunity) -> None:
    """An exchange: the old one until, the new one from an interval."""
    old, new = meters(activated)[0], account("new meter").address
    activated.send(activated.contracts.revoke_meter(old, FIRST_INTERVAL + 4))
    activated.send(activated.contracts.activate_meters([new], [MEMBER], FIRST_INTERVAL + 4))
    functions = activated.functions("MeterRegistry")
    assert functions.meterAt(old).call()[2] == functions.meterAt(new).call()[1]
    assert activated.events("MeterRegistry", "MeterRevoked") == [
        {"meter": old, "slot": MEMBER, "untilInterval": FIRST_INTERVAL + 4}
    ]


def test_a_slot_that_nobody_has_is_refused(community: LiveCommunity) -> None:
    call = community.contracts.activate_meters(meters(community, 1), [99], FIRST_INTERVAL)
    assert community.refused(call, "deployer") == ("UnknownSlot", 99)


def test_a_meter_that_nobody_has_is_refused(community: LiveCommunity) -> None:
    meter = meters(community)[0]
    call = community.contracts.revoke_meter(meter, FIRST_INTERVAL)
    assert community.refused(call, "deployer") == ("UnknownMeter", meter.lower())
    call = community.functions("MeterRegistry").meterAt(meter)
    assert said(answer(call)) == ("UnknownMeter", meter.lower())


def test_a_meter_is_revoked_once_and_not_before_it_began(activated: LiveCommunity) -> None:
    """Back to its first interval: a key that was stolen at once."""
    meter = meters(activated)[0]
    early = activated.contracts.revoke_meter(meter, FIRST_INTERVAL - 1)
    refused = activated.refused(early, "deployer")
    assert refused == ("EndsBeforeItBegins", FIRST_INTERVAL, FIRST_INTERVAL - 1)
    activated.send(activated.contracts.revoke_meter(meter, FIRST_INTERVAL))
    again = activated.contracts.revoke_meter(meter, FIRST_INTERVAL + 8)
    assert activated.refused(again, "deployer") == (
        "AlreadyRevoked",
        meter.lower(),
        FIRST_INTERVAL,
    )
