"""One leader among several processes, on both kinds of database."""

from __future__ import annotations

import subprocess
import sys

from backend.ledger.cycle import CycleStore
from backend.ledger.database import migrate, open_database
from backend.operator.leader import LeaderLock
from tests.support.databases import NewDatabase

HOLD = """
import sys, time
from backend.ledger.database import open_database
from backend.operator.leader import LeaderLock
lock = LeaderLock(open_database(sys.argv[1]))
print(lock.hold(), flush=True)
time.sleep(600)
"""


def test_one_leads_and_the_next_takes_over_when_it_is_killed(database: str) -> None:
    engine = open_database(database)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, database], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "True\n"
        own = LeaderLock(engine)
        assert not own.hold()
        other.kill()
        other.wait()
        # PostgreSQL notices that the connection is gone a moment later.
        assert any(own.hold() for _ in range(2000))
        assert own.hold()
        second = LeaderLock(open_database(database))
        assert not second.hold()
        own.release()
        assert second.hold()
        second.release()
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
        engine.dispose()


def test_communities_have_leaders_of_their_own(new_database: NewDatabase) -> None:
    """Several schemas of one PostgreSQL database too."""
    locks = [LeaderLock(open_database(new_database())) for _ in range(2)]
    assert all(lock.hold() for lock in locks)
    for lock in locks:
        lock.release()


def test_of_two_that_go_on_from_the_same_state_one_stands_back(database: str) -> None:
    import pytest

    from backend.domain.errors import LeadershipLost
    from backend.domain.states import CycleState

    engine = open_database(database)
    migrate(engine)
    one, other = CycleStore(engine), CycleStore(engine)
    item = one.begin(17, 0, 1000)
    with pytest.raises(LeadershipLost):
        other.begin(17, 0, 1001)
    one.move(item, CycleState.COLLECTED, 1002)
    with pytest.raises(LeadershipLost):
        other.move(item, CycleState.COLLECTED, 1003)
    (found,) = one.items()
    assert (found.state, found.step, found.at) == (CycleState.COLLECTED, 1, 1002)
    engine.dispose()
