"""A newcomer runs the demonstration and audits it, with the installed command, in an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PEERWATT = Path(sys.executable).parent / "peerwatt"
ANVIL = Path(__file__).parents[2] / "contracts" / "node_modules" / ".bin" / "anvil"


def peerwatt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [str(PEERWATT), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run_day(folder: Path, *arguments: str) -> dict[str, Any]:
    done = peerwatt(folder, "demo", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    day: dict[str, Any] = json.loads(done.stdout)
    return day


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_whole_day_from_meter_to_settled_balance(tmp_path: Path) -> None:
    day = run_day(tmp_path)
    assert day["community"]["member_count"] == len(day["households"]) == 20
    assert len(day["community"]["zones"]) >= 3
    assert len(day["intervals"]) == 96
    totals = day["totals"]
    assert totals["traded_wh"] + totals["imported_wh"] == totals["demand_wh"]
    assert totals["traded_wh"] + totals["exported_wh"] == totals["supply_wh"]
    parties = ("members_nano", "supplier_nano", "fees_nano", "fund_nano")
    assert sum(totals[party] for party in parties) == 0
    assert totals["traded_wh"] > 0
    assert all(household["saved_nano"] > 0 for household in day["households"])
    assert (
        sum(item["saved_nano"] for item in day["households"]) + totals["fund_nano"]
        == totals["savings_nano"]
    )
    assert {lie["outcome"] for lie in day["lies"]} == {"refused", "overturned"}
    assert any("NotOptimal" in lie["detail"] for lie in day["lies"])
    assert day["audit"]["agreed"]
    assert day["withdrawals"]
    assert day["gas"]["submit_batch"] < 16_777_216

    output = tmp_path / "peerwatt-demo"
    page = (output / "day.html").read_text()
    assert "house-20" in page
    audited = peerwatt(tmp_path, "audit", "--json")
    assert audited.returncode == 0, audited.stderr
    assert json.loads(audited.stdout)["verdict"] == "verified"


def test_the_same_run_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    arguments = ("--members", "8", "--seed", "7")
    first = run_day(tmp_path, *arguments, "--output", "one")
    second = run_day(tmp_path, *arguments, "--output", "two", "--solver", "clarabel")
    assert [p["batch_hash"] for p in first["periods"]] == [
        p["batch_hash"] for p in second["periods"]
    ]
    one, two = files_of(tmp_path / "one" / "bundles"), files_of(tmp_path / "two" / "bundles")
    assert one == two
    assert (tmp_path / "one" / "chain.json").read_bytes() == (
        tmp_path / "two" / "chain.json"
    ).read_bytes()
    other = run_day(tmp_path, "--members", "8", "--seed", "8", "--output", "three")
    assert other["periods"][0]["batch_hash"] != first["periods"][0]["batch_hash"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--members", "3"), "members"),
        (("--members", "100000"), "members"),
        (("--days", "0"), "days"),
        (("--days", "400"), "days"),
        (("--first-day", "2020-01-01"), "days"),
        (("--chain", "ftp://x"), "chain"),
        (("--solver", "magic"), "magic"),
    ],
)
def test_unsuitable_options_are_refused_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, str], named: str
) -> None:
    done = peerwatt(tmp_path, "demo", *arguments)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "mend:" in done.stderr
    assert not (tmp_path / "peerwatt-demo" / "day.json").exists()


@pytest.fixture
def anvil() -> Iterator[str]:
    """A real node on a free port."""
    if not ANVIL.exists():
        pytest.skip("no anvil: npm could not install contracts/package.json")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = subprocess.Popen(
        [str(ANVIL), "--port", str(port), "--silent"], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        node.terminate()
        node.wait()


def test_the_same_on_a_running_node(tmp_path: Path, anvil: str) -> None:
    day = run_day(tmp_path, "--chain", anvil, "--members", "6", "--days", "2")
    assert day["community"]["chain_id"] == 31337
    assert day["audit"]["agreed"]
    assert len(day["periods"]) == 2
    audited = peerwatt(tmp_path, "audit", "--json")
    assert json.loads(audited.stdout)["verdict"] == "verified", audited.stderr
    shutil.rmtree(tmp_path / "peerwatt-demo" / "bundles")
    # Nothing failed, but what was missing cannot be verified.
    assert peerwatt(tmp_path, "audit").returncode == 3
