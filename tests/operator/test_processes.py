"""The processes that deploy/compose.yml names, started directly: from readings to statements, on PostgreSQL and a real node."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_typing import HexStr

from backend.api.client import ApiClient, ApiProblem
from backend.api.relay import Relayed
from backend.api.wishes import Wishes
from backend.chain.client import ChainClient
from backend.domain.community import SUPPLIER_SLOT
from backend.operator.access import access_text
from backend.operator.community import CommunityService
from backend.operator.config import load_configuration
from backend.operator.doctor import Finding, examine
from backend.operator.metrics import CoordinatorMetrics
from backend.operator.payouts import Payouts
from tests import services
from tests.support.anvil import ask, running_anvil
from tests.support.broker import free_port
from tests.support.community import account
from tests.support.installation import SILENT_SLOT, Installation, command, installation, served
from tests.support.oracle import PASSWORD, SLOTS, energy_wh
from tests.support.postgres import Cluster

pytestmark = pytest.mark.xdist_group("installation")
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DAYS = 2
LATE_SLOT = 4
SUNNY_SLOT = 5
RELAY = account("installation relay")
ETHER = 10**18


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Installation]:
    """Two days settled, of the second without the readings of one member."""
    with (
        running_anvil() as chain,
        installation(
            tmp_path_factory.mktemp("town"),
            chain,
            cluster.create("valley"),
            DAYS,
            sunny=(SUNNY_SLOT,),
        ) as made,
    ):
        for period in made.periods:
            made.publish_day(period)
            late = (LATE_SLOT,) if period == made.periods[-1] else ()
            for signer in made.signers:
                made.send_day(signer, period, leave_out=late)
        made.start()
        made.wait_until_stated(DAYS)
        yield made


def batches(made: Installation) -> list[dict[str, str]]:
    found: list[dict[str, str]] = requests.get(
        f"{made.url}/communities/valley/batches", timeout=10
    ).json()
    return found


def headers(made: Installation, slot: int, signer: int, issued_at: int) -> dict[str, str]:
    house = made.contracts.addresses["ClearingHouse"]
    text = access_text(made.web3.eth.chain_id, house, slot, issued_at)
    signed = account("wallet", signer).sign_message(encode_defunct(text=text))
    return {
        "X-Peerwatt-Issued-At": str(issued_at),
        "X-Peerwatt-Signature": "0x" + bytes(signed.signature).hex(),
    }


def test_it_is_healthy_ready_and_measured(running: Installation) -> None:
    assert requests.get(running.url + "/health", timeout=10).json() == {"status": "ok"}
    assert requests.get(running.url + "/ready", timeout=10).status_code == 200
    last = running.periods[-1].number
    wanted = f'peerwatt_coordinator_final_period{{community="valley"}} {float(last)}'
    deadline = time.monotonic() + 60
    text = ""
    # Measured after each round of the cycle; what is final is seen before.
    while wanted not in text and time.monotonic() < deadline:
        text = requests.get(running.url + "/metrics", timeout=10).text
        time.sleep(0.2)
    assert wanted in text
    assert 'peerwatt_coordinator_leader{community="valley"} 1.0' in text
    assert 'peerwatt_coordinator_signers_answering{community="valley"} 3.0' in text


def test_the_independent_auditor_agrees(running: Installation, tmp_path: Path) -> None:
    command("coordinator", "export", str(running.config), str(tmp_path / "bundles"), "--personal")
    verdict = command(
        "audit",
        str(running.folder),
        *("--rpc", running.chain_url),
        *("--community", running.contracts.addresses["ClearingHouse"]),
        *("--bundle", str(tmp_path / "bundles")),
        code=None,
    )
    assert verdict["verdict"] == "verified", failed_checks(verdict)


def failed_checks(data: Any) -> list[Any]:
    """Whatever says of itself that it did not pass, however deep."""
    if isinstance(data, list):
        return [item for part in data for item in failed_checks(part)]
    if not isinstance(data, dict):
        return []
    if data.get("passed") is False:
        return [data]
    return [item for part in data.values() for item in failed_checks(part)]


def test_a_member_sees_its_own_data_and_nobody_elses(running: Installation) -> None:
    bundle = batches(running)[0]["bundle_hash"]
    base = f"{running.url}/communities/valley/bundles/{bundle}"
    public = requests.get(base, timeout=10)
    assert public.status_code == 200
    assert "immutable" in public.headers["Cache-Control"]
    now = int(time.time())
    for kind in ("personal", "statement"):
        own = requests.get(f"{base}/{kind}/3", headers=headers(running, 3, 3, now), timeout=10)
        assert own.status_code == 200
        assert own.json()["slot"] == 3
        for wrong in (
            {},
            headers(running, 3, 4, now),
            headers(running, 4, 4, now),
            headers(running, 3, 3, now - 3600),
            headers(running, 3, 3, now + 3600),
            {"X-Peerwatt-Issued-At": "x", "X-Peerwatt-Signature": "0x00"},
        ):
            answer = requests.get(f"{base}/{kind}/3", headers=wrong, timeout=10)
            assert answer.status_code == 401
    assert requests.get(f"{base[:-4]}0000", timeout=10).status_code == 404


def test_what_the_silent_meter_published_is_settled(running: Installation) -> None:
    bundle = batches(running)[-1]["bundle_hash"]
    now = int(time.time())
    statement = requests.get(
        f"{running.url}/communities/valley/bundles/{bundle}/statement/{SILENT_SLOT}",
        headers=headers(running, SILENT_SLOT, SILENT_SLOT, now),
        timeout=10,
    ).json()
    assert statement["missing_intervals"] == 0
    assert statement["import_wh"] > 0
    assert statement["saved_nano"] >= 0


def test_a_preview_of_a_past_day_is_what_was_settled(running: Installation) -> None:
    day = running.periods[0].day.isoformat()
    found = command("coordinator", "preview", str(running.config), "--day", day)
    assert (found["final"], len(found["intervals"])) == (False, 96)
    assert sum(item["missing"] for item in found["intervals"]) == 0
    bundle, now = batches(running)[0]["bundle_hash"], int(time.time())
    base = f"{running.url}/communities/valley/bundles/{bundle}/statement"
    bought = sum(
        requests.get(
            f"{base}/{slot}", headers=headers(running, slot, slot, now), timeout=10
        ).json()["bought_wh"]
        for slot in SLOTS
    )
    assert sum(item["traded_wh"] for item in found["intervals"]) == bought


def test_doctor_finds_nothing_wrong(running: Installation) -> None:
    findings = command("doctor", str(running.config))
    assert {item["what"] for item in findings} >= {
        "keys", "chain", "clock", "contracts", "tariff", "members", "balance", "bond", "database",
        "bundles", "disk", "signers", "readings",
    }  # fmt: skip
    assert [item for item in findings if item["level"] == "wrong"] == []
    # One member's readings of the second day have not come.
    (readings,) = [item for item in findings if item["what"] == "readings"]
    assert readings["level"] == "warning"
    assert f"(slot {LATE_SLOT}: 96)" in readings["found"]


def examined(running: Installation, **changes: Any) -> dict[str, Finding]:
    """What doctor finds with another configuration, the worst of each kind."""
    good = json.loads(running.config.read_text())
    broken = running.folder / "broken.json"
    broken.write_text(json.dumps(good | {"communities": [good["communities"][0] | changes]}))
    order = ("ok", "warning", "wrong")
    found = sorted(examine(broken), key=lambda item: order.index(item.level))
    return {item.what: item for item in found}


def test_doctor_says_what_to_mend(running: Installation) -> None:
    """One thing after the other is broken, and found."""
    given = json.loads(running.config.read_text())["communities"][0]
    files = {
        "other": "another password",
        "nowhere": "http://127.0.0.1:1",
        "no-database": "postgresql://x@/x?host=/nowhere",
        "other-network.json": (running.folder / "network.json")
        .read_text()
        .replace('"chain_id": 31337', '"chain_id": 1'),
        "other-book.json": json.dumps(
            json.loads((running.folder / "address-book.json").read_text()) | {"chain_id": 1}
        ),
    }
    for name, text in files.items():
        (running.folder / name).write_text(text)
    (running.folder / "other").chmod(0o644)
    tariff = given["tariffs"][0] | {"share_millionths": 1}
    stranger = account("dso").address
    dear = given["members"][0] | {"account": stranger}
    unknown = [given["members"][0] | {"meter": stranger}, *given["members"][1:]]
    cases: tuple[tuple[dict[str, Any], str, str], ...] = (
        ({"password_file": "other"}, "keys", "keystore"),
        ({"rpc_file": "nowhere"}, "chain", "node"),
        ({"network": "other-network.json"}, "chain", "URL"),
        ({"address_book": "founding.json"}, "contracts", "peerwatt deploy"),
        ({"address_book": "other-book.json"}, "contracts", "peerwatt deploy"),
        ({"tariffs": [tariff]}, "tariff", "announce"),
        ({"members": [dear]}, "members", "registrar"),
        ({"members": unknown}, "signers' members", "reported"),
        ({"database_file": "no-database"}, "database", "repeat"),
        ({"bundles": {"folder": "founding.json"}}, "bundles", "writable"),
        ({"trades": {"folder": "/proc/nowhere"}}, "trades", "written"),
        ({"signers": [{"url": "http://127.0.0.1:1", "token_file": "token"}]}, "signers", "start"),
    )
    for changes, what, mend in cases:
        found = examined(running, **changes)
        assert found[what].level == "wrong", (changes, found)
        assert mend in found[what].mend, found[what]
        assert "another password" not in str(found)
    broken = running.folder / "broken.json"
    broken.write_text("{}")
    (only,) = examine(broken)
    assert (only.what, only.level) == ("configuration", "wrong")


def test_doctor_asks_each_endpoint(running: Installation) -> None:
    """The first one's end does not show otherwise, before the second one's does."""
    (running.folder / "two").write_text(f"http://127.0.0.1:1/key-of-ours\n{running.chain_url}\n")
    chain = examined(running, rpc_file="two")["chain"]
    assert (chain.level, "http://127.0.0.1:1:" in chain.found) == ("warning", True)
    assert running.chain_url in chain.found
    assert "key-of-ours" not in chain.found


def test_doctor_looks_at_clock_and_disk(
    running: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, whole = time.time, shutil.disk_usage("/")

    def clock(ahead_seconds: float) -> Callable[[], float]:
        return lambda: right() + ahead_seconds

    def disk(free: int) -> Callable[[object], Any]:
        return lambda path: whole._replace(free=free)

    for ahead_seconds, level in ((-300, "wrong"), (300, "warning"), (0, "ok")):
        monkeypatch.setattr(time, "time", clock(ahead_seconds))
        assert examined(running)["clock"].level == level
    for free, level in ((2**28, "wrong"), (2**32, "warning"), (2**34, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", disk(free))
        assert examined(running)["disk"].level == level


def test_doctor_counts_the_coins(running: Installation) -> None:
    """Of the coordinator, and of a key that has posted no bond."""
    web3, deployer = running.web3, account("installation deployer").address
    before = {
        address: web3.eth.get_balance(address)
        for address in (running.coordinator.address, deployer)
    }
    try:
        for wei, level in ((10**14, "wrong"), (10**16, "warning")):
            ask(web3, "anvil_setBalance", running.coordinator.address, hex(wei))
            assert examined(running)["balance"].level == level
        other = {"keystore": "deployer.key.json"}
        found = examined(running, **other)["bond"]
        assert (found.level, found.found) == ("warning", "0.0000 of 0.1000 coins")
        ask(web3, "anvil_setBalance", deployer, hex(10**16))
        assert examined(running, **other)["bond"].level == "wrong"
    finally:
        for address, wei in before.items():
            ask(web3, "anvil_setBalance", address, hex(wei))
    assert examined(running)["balance"].level == "ok"


def metrics_of(text: str) -> set[str]:
    return set(re.findall(r"peerwatt_[a-z_]+", text))


def test_prometheus_finds_what_alerts_and_dashboard_ask_for(
    running: Installation, tmp_path: Path
) -> None:
    """Prometheus itself, with the files that are shipped but for the targets' places and its pace."""
    program = services.prometheus() or services.absent("prometheus")
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text().replace("30s", "1s")
    targets = {"coordinator:8800": running.url} | {
        f"signer-{number}:8700": signer.url for number, signer in enumerate(running.signers, 1)
    }
    for shipped, here in targets.items():
        assert f'"{shipped}"' in text
        text = text.replace(shipped, here.removeprefix("http://"))
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)
    port = free_port()
    arguments = (
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    alerts = {
        rule["alert"]: rule["expr"]
        for group in yaml.safe_load((tmp_path / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "peerwatt.json").read_text())
    asked = {target["expr"] for panel in board["panels"] for target in panel["targets"]}
    names = metrics_of(" ".join([*asked, *alerts.values()]))
    # Counts by error appear with the first error, and nobody has audited a process that has just begun.
    not_yet = {
        name
        for name in names
        if name.endswith(("_failures_total", "_rejected_total")) or "_audit_" in name
    }

    def get(path: str, **query: str) -> Any:
        answer = requests.get(f"http://127.0.0.1:{port}/api/v1/{path}", params=query, timeout=10)
        answer.raise_for_status()
        return answer.json()["data"]

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    try:
        deadline, lacking = time.monotonic() + 60, names
        while lacking:
            assert time.monotonic() < deadline, (lacking, (tmp_path / "log").read_text())
            time.sleep(0.2)
            with contextlib.suppress(requests.RequestException):
                lacking = {
                    name for name in names - not_yet if not get("series", **{"match[]": name})
                } | {
                    expression
                    for expression in asked
                    # An increase takes two looks.
                    if not (not_yet & metrics_of(expression))
                    and not get("query", query=expression)["result"]
                }
        wrong = {
            name for name, expression in alerts.items() if get("query", query=expression)["result"]
        }
        # Of today there are no readings here, and the first audit is a few minutes after the start.
        assert wrong <= {"ReadingsMissing", "NotAudited"}
        (group,) = get("rules")["groups"]
        assert {rule["name"]: rule["health"] for rule in group["rules"]} == dict.fromkeys(
            alerts, "ok"
        )
        (manager,) = get("alertmanagers")["activeAlertmanagers"]
        assert manager["url"].startswith("http://alertmanager:9093/")
    finally:
        process.terminate()
        process.wait(60)


def test_a_second_process_stands_by(running: Installation) -> None:
    refused = command("coordinator", "finalise", str(running.config), code=1)
    assert refused["error"]["code"] == "operator.leadership_lost"


def test_a_trace_leads_from_the_reading_to_the_statement(running: Installation) -> None:
    first = batches(running)[0]
    for signer in running.signers:
        written = [json.loads(line) for line in signer.log.splitlines() if line.startswith("{")]
        events = [item["event"] for item in written if item.get("trace") == first["trace"]]
        assert events[0] == "first readings"
        assert set(events[1:]) <= {"report signed"}
    assert "report signed" in "".join(signer.log for signer in running.signers)
    lines = [json.loads(line) for line in running.log.splitlines() if line.startswith("{")]
    traced = [item for item in lines if item.get("trace") == first["trace"]]
    states = [item["state"] for item in traced if "state" in item]
    assert states[:3] == ["collecting", "collected", "prepared"]
    assert states[-1] == "stated"
    # The transaction that brought the batch into a block, from its signing on; and nothing in the log is no JSON.
    sent = [item for item in traced if item.get("intent", "").startswith("batch ")]
    assert {item["batch"] for item in sent} == {first["batch_hash"]}
    assert [item["event"] for item in sent if item["event"] != "transaction signed"] == [
        "transaction mined",
        "transaction final",
    ]
    assert sent[0]["event"] == "transaction signed"
    mined = running.web3.eth.get_transaction_receipt(HexStr(sent[-1]["transaction"]))
    assert mined["to"] == running.contracts.addresses["ClearingHouse"]
    assert mined["status"] == 1
    assert all(item["community"] == "valley" for item in sent)
    assert all(line.startswith("{") for line in running.log.splitlines())
    # Everybody's day so far is cleared as it goes.
    assert "interval cleared" in {item["event"] for item in lines}
    # No member, key or password in it.
    for slot in SLOTS:
        assert account("wallet", slot).address not in running.log


def test_deploying_again_changes_nothing(running: Installation) -> None:
    before = running.web3.eth.get_transaction_count(account("installation deployer").address)
    again = running.deploy()
    assert again["done"] == 0
    assert again["done_before"] > 30
    after = running.web3.eth.get_transaction_count(account("installation deployer").address)
    assert after == before


# --- The web site beside it ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(running: Installation) -> Iterator[str]:
    """`peerwatt serve --config`, with a relay that has an ether."""
    store = Account.encrypt(RELAY.key, PASSWORD, kdf="pbkdf2", iterations=1000)
    (running.folder / "relay.key.json").write_text(json.dumps(store))
    (running.folder / "relay.key.json").chmod(0o600)
    ask(running.web3, "anvil_setBalance", RELAY.address, hex(ETHER))
    running.write_config(relay_keystore="relay.key.json")
    with served(running) as url:
        yield url


def signed_in(site: str, key: LocalAccount) -> ApiClient:
    client = ApiClient(site, "valley")
    client.sign_in(key)
    return client


def test_a_member_sees_its_days_on_the_site(running: Installation, site: str) -> None:
    client = signed_in(site, account("wallet", 3))
    assert client.me().slots == (3,)
    first = running.periods[0]
    interval_range = range(first.first_interval, first.end_interval)
    readings = list(client.readings(3, first.number))
    assert [(item.import_wh, item.export_wh) for item in readings] == [
        energy_wh(3, interval) for interval in interval_range
    ]
    assert [item.interval for item in client.intervals(3, first.number)] == list(interval_range)
    # The coordinator's own statement, which another part of the program makes.
    bundle = batches(running)[0]["bundle_hash"]
    told = requests.get(
        f"{running.url}/communities/valley/bundles/{bundle}/statement/3",
        headers=headers(running, 3, 3, int(time.time())),
        timeout=10,
    ).json()
    statement = client.statement(3, first.number)
    assert (statement.summary.kind, statement.summary.saved_nano) == ("final", told["saved_nano"])
    assert statement.day.totals.bought_inside_wh == told["bought_wh"] > 0
    assert sum(item.energy_wh for item in client.trades(3, first.number)) == sum(
        told[name] for name in ("bought_wh", "sold_wh")
    )
    assert client.statement_pdf(3, first.number).startswith(b"%PDF")
    assert len(client.statement_csv(3, first.number).splitlines()) == 97
    proof = client.proof(3, 1)
    assert "0x" + keccak(proof.personal.encode()).hex() == proof.personal_hash
    assert client.today(3).settled is not None
    assert client.savings(3, first.day.strftime("%Y-%m")).days
    assert client.wish(3, Wishes(), account("wallet", 3)).number == 1
    found = {item.number: item for item in client.batches()}
    assert set(found) == {1, 2}
    assert client.batch(1).batch.batch_hash == batches(running)[0]["batch_hash"]
    with pytest.raises(ApiProblem, match="slot 4 is not yours"):
        client.day(4, first.number)
    with pytest.raises(ApiProblem, match="this is for"):
        client.overview()


def test_those_who_run_operate_and_audit_see_theirs(running: Installation, site: str) -> None:
    coordinator = signed_in(site, running.coordinator)
    last = running.periods[-1].number
    matrix = coordinator.completeness(3)
    place = matrix.periods.index(last)
    missing = {row.slot: row.cells[place].missing for row in matrix.rows}
    assert missing == {slot: 96 if slot == LATE_SLOT else 0 for slot in SLOTS}
    assert ("readings.missing", LATE_SLOT) in {
        (item.code, item.slot) for item in coordinator.exceptions()
    }
    assert {item.state for item in coordinator.periods()} == {"stated"}
    assert coordinator.keys().threshold == 2
    health = coordinator.health()
    assert health.level == "ok", health
    assert len(list(coordinator.accounts())) == len(SLOTS)
    # While a coordinator leads it is left to that one; what is final is said all the same.
    with pytest.raises(ApiProblem, match="a coordinator is running") as led:
        coordinator.run()
    assert (led.value.status, led.value.code) == (409, "operator.leadership_lost")
    assert coordinator.finalise(last).failures == ()
    operator = signed_in(site, account("dso"))
    fees = operator.fees()
    assert len(fees.periods) == DAYS
    flows = operator.flows(running.periods[0].number)
    assert flows.access_fees_nano == fees.periods[-1].fees_nano > 0
    assert operator.limits(last).nodes[0].connection_limit_wh == 5000 * len(SLOTS)
    auditor = signed_in(site, account("outsider"))
    # Whoever has no mandate lacks the members' parts, and finds nothing wrong without them.
    verdict = auditor.verdict(1)
    assert (verdict.verdict, verdict.level) == ("incomplete", "public")
    assert {item.passed for item in verdict.checks} == {True, None}
    assert auditor.evidence(1).startswith(b"PK")
    assert auditor.tariffs()[0].announced


def test_the_relay_pays_for_members(running: Installation, site: str) -> None:
    """A member without a coin leaves and withdraws; each is sent once, and not without end."""
    web3, wallet = running.web3, account("wallet", 3)
    ask(web3, "anvil_setBalance", wallet.address, "0x0")
    client = signed_in(site, wallet)
    before = web3.eth.get_balance(RELAY.address)
    sent = client.depart(3, wallet)
    found = wait_until_mined(client, sent)
    assert running.contracts.member_at(3).until_period > running.periods[-1].number
    receipt = web3.eth.get_transaction_receipt(HexStr(str(found.transaction_hash)))
    assert receipt["from"] == RELAY.address
    paid = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert before - web3.eth.get_balance(RELAY.address) == paid > 0
    assert client.depart(3, wallet, running.contracts.member_at(3).until_period) == found
    tokens = running.contracts.token_balance(wallet.address)
    wait_until_mined(client, client.withdraw(3, ETHER // 10**9))
    assert running.contracts.token_balance(wallet.address) - tokens == 10**6
    assert web3.eth.get_transaction_count(wallet.address) == 0
    # Nothing is decided that the relay would not pay for.
    nonce = web3.eth.get_transaction_count(RELAY.address)
    ask(web3, "anvil_setBalance", RELAY.address, "0x1")
    with pytest.raises(ApiProblem, match="not enough") as poor:
        client.withdraw(3, 2 * ETHER // 10**9)
    assert (poor.value.status, poor.value.code) == (503, "web.too_dear")
    ask(web3, "anvil_setBalance", RELAY.address, hex(ETHER))
    for index in range(8):
        client.withdraw(3, 10**9 + 1000 * (index + 1))
    with pytest.raises(ApiProblem, match="10 transactions were sent") as enough:
        client.withdraw(3, 3 * 10**9)
    assert (enough.value.status, enough.value.code) == (429, "web.too_many_requests")
    deadline = time.monotonic() + 60
    while web3.eth.get_transaction_count(RELAY.address) < nonce + 8:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def wait_until_mined(client: ApiClient, sent: Relayed) -> Relayed:
    deadline = time.monotonic() + 60
    while (found := client.relayed(3, sent)).state == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert found.succeeded
    return found


def test_a_late_reading_is_settled_and_finalised_by_hand(running: Installation, site: str) -> None:
    """With no coordinator running: run corrects the day, finalise waits for the challenge window, the member sees both."""
    member, coordinator = (
        signed_in(site, account("wallet", LATE_SLOT)),
        signed_in(site, running.coordinator),
    )
    last = running.periods[-1]
    before = member.statement(LATE_SLOT, last.number)
    assert (before.day.totals.missing_intervals, before.day.totals.import_wh) == (96, 0)
    assert running.stop() == 0
    for signer in running.signers:
        running.send_day(signer, last)
    deadline = time.monotonic() + 60
    # A batch is in a block a moment before the block is read.
    while (provisional := member.statement(LATE_SLOT, last.number)).summary.kind != "correction":
        assert time.monotonic() < deadline, coordinator.run()
        coordinator.run()
    assert newest(coordinator, last.number) == (1, "submitted")
    assert provisional.day.standing == "provisional"
    with pytest.raises(ApiProblem, match="can be challenged until") as early:
        coordinator.finalise(last.number)
    assert early.value.code == "operator.not_final"
    while newest(coordinator, last.number) != (1, "stated"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
        with contextlib.suppress(ApiProblem):
            coordinator.finalise(last.number)
    after = member.statement(LATE_SLOT, last.number)
    assert (after.summary.version, after.summary.kind) == (1, "correction")
    assert (after.day.standing, after.day.totals.missing_intervals) == ("settled", 0)
    assert after.day.totals.import_wh == sum(
        energy_wh(LATE_SLOT, interval)[0]
        for interval in range(last.first_interval, last.end_interval)
    )
    # Version 0 stays as it was; the correction carries the difference.
    again = member.statement(LATE_SLOT, last.number, 0)
    assert again.day.totals == before.day.totals
    assert after.summary.amount_nano == after.summary.due_nano - before.summary.due_nano
    running.start()


def newest(coordinator: ApiClient, period: int) -> tuple[int, str]:
    """Version and state."""
    return max(
        (item.version, item.state) for item in coordinator.periods() if item.period == period
    )


def test_a_member_erases_its_data(running: Installation, site: str) -> None:
    """Of the first day; what the second and the neighbours have stays."""
    client, neighbour = (signed_in(site, account("wallet", slot)) for slot in (5, 3))
    first, last = (period.number for period in running.periods)
    assert client.erase(5, last).batches == 1
    with pytest.raises(ApiProblem, match="no such statement"):
        client.statement(5, first)
    assert client.statement(5, last).day.totals.import_wh > 0
    assert neighbour.statement(3, first).day.totals.import_wh > 0
    assert zipfile.ZipFile(io.BytesIO(client.export(5))).testzip() is None


def test_a_restart_of_the_site_only_signs_people_out(running: Installation, site: str) -> None:
    wallet, first = account("wallet", 3), running.periods[0].number
    client = signed_in(site, wallet)
    wished = client.wish(3, Wishes(automatic=False, refused=(SUNNY_SLOT,)), wallet)
    before = client.statement(3, first)
    with served(running) as other:
        stale = {"Authorization": f"Bearer {client.token}"}
        me = f"{other}/api/v1/communities/valley/me"
        assert requests.get(me, headers=stale, timeout=60).json()["address"] is None
        again = signed_in(other, wallet)
        assert again.statement(3, first) == before
        assert again.wishes(3) == wished


def test_everybody_is_paid_out(running: Installation) -> None:
    """Once, whatever happens between: an owner who is quicker, a process that is killed before it sees the block."""
    running.wait_until_stated(DAYS)
    deadline = time.monotonic() + 120
    # The one that was started just before has the lock only when it is ready.
    while requests.get(f"{running.url}/ready", timeout=10).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    refused = command("coordinator", "payout", str(running.config), code=1)
    assert refused["error"]["code"] == "operator.leadership_lost"
    assert running.stop() == 0
    shown = command("coordinator", "payout", str(running.config), "--dry-run")
    assert (shown["sent"], shown["transactions"]) == (False, [])
    expected = {item["slot"]: item["tokens"] for item in shown["accounts"]}
    assert {SUPPLIER_SLOT, SUNNY_SLOT} <= set(expected)
    few = command(
        "coordinator", "payout", str(running.config), "--dry-run", "--slot", str(SUNNY_SLOT)
    )
    assert [item["slot"] for item in few["accounts"]] == [SUNNY_SLOT]
    contracts = running.contracts
    wallets = {slot: contracts.member_at(slot).account for slot in expected}
    held = {slot: contracts.token_balance(wallets[slot]) for slot in expected}

    entry = load_configuration(running.config).file.communities[0]
    service = CommunityService(load_configuration(running.config), entry, CoordinatorMetrics())
    assert service.lock.hold()
    payouts = Payouts(
        service.contracts, service.sender, service.store, service.bundles, service.now
    )
    state = payouts.state()
    least = 10**6
    due = payouts.due(state, least)
    assert {item.slot: item.tokens for item in due} == expected
    quicker = contracts.withdraw_many({SUNNY_SLOT: expected[SUNNY_SLOT]}, state)
    outsider = account("outsider")
    ask(running.web3, "anvil_setBalance", outsider.address, hex(ETHER))
    ChainClient(running.web3, embedded=False).send(quicker, outsider)
    with pytest.MonkeyPatch.context() as patch:
        # Killed after the decision was stored: nobody waits for it.
        patch.setattr(service.sender, "wait", _killed)
        with pytest.raises(KeyboardInterrupt):
            list(payouts.pay(state, due))
    service.close()
    again = command("coordinator", "payout", str(running.config))
    assert {item["refused"] for item in again["accounts"]} <= {""}
    assert SUNNY_SLOT not in {item["slot"] for item in again["accounts"]}
    now = {slot: contracts.token_balance(wallets[slot]) for slot in expected}
    assert {slot: now[slot] - held[slot] for slot in expected} == expected
    assert command("coordinator", "payout", str(running.config))["accounts"] == []
    running.start()
    running.wait_until_stated(DAYS)


def _killed(key: str) -> None:
    raise KeyboardInterrupt


def test_it_stops_in_order(running: Installation) -> None:
    """Last, because it does."""
    assert running.stop() == 0
    assert '"event": "stopped"' in running.log
    running.process = None
