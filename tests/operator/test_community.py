"""One community's service in this process, with a real node, signers and ledger: what it measures, audits and previews, also when something is away."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from web3 import Web3

from backend.domain.errors import ClearingFailed, MalformedInput, NodeUnreachable
from backend.domain.states import CycleState
from backend.ledger.cycle import Item
from backend.ledger.database import open_database
from backend.operator.community import CommunityService
from backend.operator.config import ConfiguredRules, load_configuration
from backend.operator.erasure import erase_member
from backend.operator.leader import LeaderLock
from backend.operator.metrics import CoordinatorMetrics
from backend.operator.oracle_reports import OracleSigners
from backend.operator.own_audit import due_since, first_audited, headers_from
from backend.operator.run import CoordinatorProcess
from oracle.peers import SignerClient
from tests.operator.test_communities import send_running
from tests.support.anvil import running_anvil
from tests.support.broker import free_port
from tests.support.installation import Installation, command, installation
from tests.support.oracle import PROGRAM, SLOTS, TOKEN

pytestmark = pytest.mark.xdist_group("installation")
ERASED_SLOT = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("village")
    with (
        running_anvil() as chain,
        installation(folder, chain, f"sqlite:///{folder}/ledger.sqlite", 1) as found,
    ):
        found.publish_day(found.periods[0])
        for signer in found.signers:
            found.send_day(signer, found.periods[0])
        yield found


@pytest.fixture(scope="module")
def service(made: Installation) -> Iterator[CommunityService]:
    """With the first day settled."""
    configuration = load_configuration(made.config)
    metrics = CoordinatorMetrics()
    metrics.configured("valley")
    found = CommunityService(configuration, configuration.file.communities[0], metrics)
    deadline = time.monotonic() + 120
    while not any(item.state is CycleState.STATED for item in found.store.items()):
        assert time.monotonic() < deadline, found.failures
        found.tick()
        time.sleep(0.2)
    assert found.tick()
    yield found
    found.close()


def shown(service: CommunityService) -> dict[str, float]:
    """The community's gauges by name."""
    return {
        family.name.removeprefix("peerwatt_coordinator_"): sample.value
        for family in service.metrics.registry.collect()
        for sample in family.samples
        if sample.labels == {"community": "valley"}
    }


def dead_node(service: CommunityService, made: Installation) -> Web3:
    configuration = load_configuration(made.config)
    network = configuration.network(service.entry)
    return network.connect((f"http://127.0.0.1:{free_port()}",))


def test_all_is_well(service: CommunityService, made: Installation) -> None:
    found = shown(service)
    assert found["leader"] == 1
    assert found["final_period"] == made.periods[0].number
    assert found["oldest_open_period_end_timestamp_seconds"] == 0
    assert found["oldest_open_correction_timestamp_seconds"] == 0
    assert found["final_after_seconds"] == service.cycle.parameters.challenge_seconds
    assert (found["signers_answering"], found["signers_needed"]) == (3, 2)
    assert found["audited_timestamp_seconds"] == 0


def test_the_auditor_finds_nothing_wrong_and_nothing_missing(service: CommunityService) -> None:
    service.audit_if_due()
    found = shown(service)
    assert (found["audit_mismatches"], found["audit_unchecked"]) == (0, 0)
    assert time.time() - 60 < found["audited_timestamp_seconds"] == service.audited_at
    # Once is enough until the next quiet hour; a clock that was ahead changes nothing.
    done = service.audited_at
    service.audit_if_due()
    assert service.audited_at == done
    service.audited_at = done + 10**6
    service.audit_if_due()
    assert service.audited_at < done + 10**5


def test_the_communitys_day_is_not_everybodys(service: CommunityService) -> None:
    entry = service.entry.model_copy(update={"time_zone": "Pacific/Kiritimati"})
    rules = ConfiguredRules(entry, 0, "", b"", b"")
    midnight = 20_000 * 86_400
    # Fourteen hours ahead.
    assert rules.running(midnight + 10 * 3600 - 1) == 20_000
    assert rules.running(midnight + 10 * 3600) == 20_001
    assert service.rules.running(midnight + 10 * 3600) == 20_000


def test_the_quiet_hour() -> None:
    four = 20_000 * 86_400 + 4 * 3600
    assert (due_since(four - 1), due_since(four), due_since(four + 86_399)) == (
        four - 86_400,
        four,
        four,
    )


def test_a_node_that_is_away_is_no_finding(
    service: CommunityService, made: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = service.audited_at
    with monkeypatch.context() as patch:
        patch.setattr(service, "web3", dead_node(service, made))
        assert service.audit() is None
    assert (shown(service)["audit_mismatches"], service.audited_at) == (0, before)


def test_what_could_not_go_on_is_said_whether_or_not_it_can_be_measured(
    service: CommunityService, made: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = ClearingFailed("no proof", "wait")
    with monkeypatch.context() as patch:
        patch.setattr(service.cycle, "advance", lambda: [failure])
        patch.setattr(service, "web3", dead_node(service, made))
        assert not service.tick()
    assert service.failures[0] is failure
    assert isinstance(service.failures[1], NodeUnreachable)
    assert service.tick()
    assert service.failures == []


def test_erased_data_are_not_wrong_but_what_was_altered_is(
    service: CommunityService, made: Installation
) -> None:
    number = made.periods[0].number
    assert erase_member(service.store, service.bundles, ERASED_SLOT, number + 1) == 1
    assert service.audit() == 0
    found = shown(service)
    assert found["audit_mismatches"] == 0
    assert found["audit_unchecked"] > 0
    ((_, header),) = service.store.live(final_only=False).values()
    public = json.loads(service.bundles.public(header.bundle_hash) or b"{}")
    name = public["personal_hashes"]["3"].removeprefix("0x")
    path = made.folder / "bundles" / "personal" / f"{name}.json"
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"slot":3', b'"slot":5'))
    try:
        wrong = service.audit()
        assert wrong is not None
        assert wrong > 0
        assert shown(service)["audit_mismatches"] == wrong
    finally:
        path.write_bytes(good)


def test_an_export_has_what_was_not_erased(service: CommunityService, tmp_path: Path) -> None:
    """What is left of an erased part an auditor would take for altered."""
    names = {str(path.relative_to(tmp_path)) for path in service.export(tmp_path, personal=True)}
    assert names == {"1/public.json"} | {
        f"1/personal/{slot}.json"
        for slot in service.bundles.whole_slots(headers_from(service.store, None)[0])
    }
    assert f"1/personal/{ERASED_SLOT}.json" not in names
    assert [path.name for path in service.export(tmp_path)] == ["public.json"]


def test_a_correction_is_no_day_that_is_late(service: CommunityService, made: Installation) -> None:
    """Neither under way nor refused, and one whose time is over keeps nobody waiting."""
    now, long_ago = int(time.time()), made.periods[0].number - 40
    given_up = service.store.begin(long_ago, 1, now - 86_400)
    service.store.move(given_up, CycleState.REFUSED, now - 86_000, reason="too late")
    assert service.tick()
    assert shown(service)["oldest_open_correction_timestamp_seconds"] == 0
    service.lock.release()
    assert command("coordinator", "finalise", str(made.config))["done"] is True
    # Nor does it keep anybody's data.
    day = str(made.periods[0].day)
    erased = command("coordinator", "erase", str(made.config), "--slot", "5", "--before", day)
    assert erased["batches"] == 0
    begun = service.store.begin(made.periods[0].number, 1, now - 100)
    refused = service.store.move(begun, CycleState.REFUSED, now, reason="as an example")
    assert not service.cycle.is_given_up(refused)
    service._measure()
    found = shown(service)
    assert found["oldest_open_period_end_timestamp_seconds"] == 0
    assert found["oldest_open_correction_timestamp_seconds"] == now - 100
    # What is late without having been tried is given up too; what is on its way to the chain, and a day itself, never.
    assert service.cycle.is_given_up(Item(long_ago, 1, CycleState.COLLECTED, 1, now))
    assert not service.cycle.is_given_up(Item(long_ago, 1, CycleState.SUBMITTING, 1, now))
    assert not service.cycle.is_given_up(Item(long_ago, 0, CycleState.REFUSED, 1, now, attempts=1))


def test_the_log_says_which_day_cannot_go_on(
    service: CommunityService,
    made: Installation,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its trace, by which everything else that happened to the day is found."""
    number = made.periods[0].number
    away = OracleSigners(
        [SignerClient(f"http://127.0.0.1:{free_port()}", TOKEN)],
        service.contracts,
        service.chain_id,
        patience_seconds=0.1,
    )
    (refused,) = [item for item in service.store.items() if item.period == number and item.version]
    again = service.store.move(refused, CycleState.COLLECTING, int(time.time()))
    with monkeypatch.context() as patch:
        patch.setattr(service.cycle, "oracle", away)
        assert not service.tick()
    service.store.move(again, CycleState.REFUSED, int(time.time()), reason="as it was")
    (told,) = [vars(item) for item in caplog.records if item.message == "cannot go on"]
    assert (told["period"], told["trace"]) == (number, service.trace(number))


def test_who_no_longer_leads_shows_nothing_old(service: CommunityService) -> None:
    """What the former leader knew would stay as it was, and alerts would go off by it."""
    service.tick()
    assert shown(service)["leader"] == 1
    engine = open_database(str(service.ledger.engine.url))
    other = LeaderLock(engine)
    service.lock.release()
    try:
        assert other.hold()
        assert service.tick()
        found = shown(service)
        assert found == {
            "leader": 0,
            "waiting": 1,
            "advanced_timestamp_seconds": 0,
            "cleared_interval_end_timestamp_seconds": 0,
            "audited_timestamp_seconds": 0,
        }
        assert service.audit() is None
    finally:
        other.release()
        engine.dispose()
    service.tick()
    assert shown(service)["leader"] == 1
    service.audit_if_due()
    assert shown(service)["audit_mismatches"] == 0


def test_previews_stay_when_no_signer_answers(
    service: CommunityService, made: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.preview()
    running = service.rules.period(service.running_period())
    assert shown(service)["cleared_interval_end_timestamp_seconds"] >= running.first_interval * 900
    if send_running(made) == 0:
        pytest.skip("the day has only just begun")
    service.preview()
    before, rows = shown(service), service.store.previews()
    # The one meter that cannot sign has published nothing today.
    assert before["missing_members_ratio"] == 1 / len(SLOTS)
    assert sum(row.demand_wh for row in rows) > 0
    away = OracleSigners(
        [SignerClient(f"http://127.0.0.1:{free_port()}", TOKEN)], service.contracts, 1
    )
    with monkeypatch.context() as patch:
        patch.setattr(service.previewer, "oracle", away)
        service.preview()
    assert shown(service) == before
    assert service.store.previews() == rows


def test_the_newest_batches_are_audited(service: CommunityService, made: Installation) -> None:
    assert first_audited(service.store) == made.periods[0].number
    assert [header.number for header in headers_from(service.store, None)] == [1]
    assert headers_from(service.store, made.periods[0].number + 1) == []


def test_what_is_no_longer_configured_is_not_waited_for(made: Installation) -> None:
    """Nor is the process not ready for its sake."""
    given = json.loads(made.config.read_text())
    (valley,) = given["communities"]
    hill = valley | {
        "name": "hill",
        "address_book": "none-yet.json",
        "database_file": None,
        "database": "sqlite:///hill.sqlite",
        "keystore": "deployer.key.json",
    }
    path = made.folder / "both.json"
    path.write_text(json.dumps(given | {"communities": [valley, hill]}))
    process = CoordinatorProcess(path)
    assert 'waiting{community="hill"} 1.0' in process.metrics.text().decode()
    process._open_waiting(process.configuration.file.communities[1:])
    assert list(process.waiting) == ["hill"]
    path.write_text(json.dumps(given))
    process._take_over()
    process._open_again()
    assert process.waiting == {}
    # Counts of what has happened stay.
    left = [line for line in process.metrics.text().decode().splitlines() if "{community=" in line]
    assert left
    assert all('{community="valley"}' in line for line in left)


def test_none_that_is_configured_rightly_ends_the_process(made: Installation) -> None:
    given = json.loads(made.config.read_text())
    (valley,) = given["communities"]
    wrong = valley | {"address_book": "none-yet.json"}
    path = made.folder / "wrong.json"
    path.write_text(json.dumps(given | {"port": free_port(), "communities": [wrong]}))
    with pytest.raises(MalformedInput, match="none-yet"):
        CoordinatorProcess(path).run()


def test_a_slow_node_keeps_nobody_from_asking(made: Installation) -> None:
    """The process tells how it is while it waits for a node that takes the connection and says nothing."""
    given, port = json.loads(made.config.read_text()), free_port()
    (valley,) = given["communities"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (made.folder / "silent").write_text(f"http://127.0.0.1:{silent.getsockname()[1]}")
        slow = valley | {"rpc_file": "silent"}
        path = made.folder / "slow.json"
        path.write_text(json.dumps(given | {"port": port, "communities": [slow]}))
        with (made.folder / "slow.log").open("wb") as log:
            process = subprocess.Popen(
                [*PROGRAM, "coordinator", "run", str(path)], stdout=log, stderr=log
            )
        try:
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None
                assert time.monotonic() < deadline
                with contextlib.suppress(requests.ConnectionError):
                    ready = requests.get(f"http://127.0.0.1:{port}/ready", timeout=10)
                    break
                time.sleep(0.05)
            assert ready.status_code == 503
            (reason,) = ready.json()["waiting"]["valley"]
            assert reason["message"] == "is being opened"
            metrics = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
            assert 'peerwatt_coordinator_waiting{community="valley"} 1.0' in metrics
        finally:
            process.kill()
            process.wait()
