"""promtool plays made-up series through the alerts: each goes off when it should, and none when nothing is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import yaml

from backend.operator.metrics import CoordinatorMetrics
from tests import services

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "alerts.yml"
MINUTES = 5000
# What nothing is wrong with lasts until then, so that every alert has had its time.
LATE = MINUTES - 5
UP, ORACLE = 'up{job="coordinator",instance="one"}', 'up{job="oracle",instance="signer"}'

Series = dict[str, str]


def named(metric: str, instance: str = "one") -> str:
    labels = f'community="valley",job="coordinator",instance="{instance}"'
    return f"peerwatt_coordinator_{metric}{{{labels}}}"


def configured(instance: str = "one") -> Series:
    """What a process shows of a community before anything has been done for it."""
    metrics = CoordinatorMetrics()
    metrics.configured("valley")
    return {
        named(
            family.name.removeprefix("peerwatt_coordinator_"), instance
        ): f"{sample.value:.0f}x{MINUTES}"
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def healthy() -> Series:
    """A leader for whom all goes well."""
    now, days = f"0+60x{MINUTES}", "".join(f"{day * 86_400}x1439 " for day in range(4))
    shown = {
        "leader": "1",
        "waiting": "0",
        "advanced_timestamp_seconds": now,
        "cleared_interval_end_timestamp_seconds": now,
        "audited_timestamp_seconds": days,
        "missing_members_ratio": "0.1",
        "oldest_open_period_end_timestamp_seconds": days,
        "oldest_open_correction_timestamp_seconds": "0",
        "final_after_seconds": "90000",
        "signers_answering": "2",
        "signers_needed": "2",
        "batches_affordable": "40",
        "audit_mismatches": "0",
        "audit_unchecked": "3",
    }
    series = {
        named(name): value if "x" in value else f"{value}x{MINUTES}"
        for name, value in shown.items()
    }
    return series | {UP: f"1x{MINUTES}", ORACLE: f"1x{MINUTES}"}


def changed(metric: str, values: str) -> Series:
    return healthy() | {
        named(metric): values if "x" in values or "_" in values else f"{values}x{MINUTES}"
    }


def standby() -> Series:
    return configured("two") | {
        named("waiting", "two"): f"0x{MINUTES}",
        UP.replace("one", "two"): f"1x{MINUTES}",
    }


def firing(cases: Iterable[tuple[Mapping[str, str], int, set[str]]], folder: Path) -> str:
    """What promtool says against cases of series, minute, and alerts that go off then; empty if nothing."""
    program = services.promtool() or services.absent("prometheus")
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": f"{minute}m",
                    "exp_samples": [
                        {"labels": f'{{alertname="{alert}"}}', "value": 1}
                        for alert in sorted(alerts)
                    ],
                }
            ],
        }
        for series, minute, alerts in cases
    ]
    path = folder / "tests.yml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": tests})
    )
    done = subprocess.run(
        [program, "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


OFF: dict[str, Series] = {
    "IntervalNotCleared": changed(
        "cleared_interval_end_timestamp_seconds", f"0+60x{LATE - 60} {(LATE - 60) * 60}x60"
    ),
    "ReadingsMissing": changed("missing_members_ratio", "0.3"),
    "BatchNotFinal": changed("oldest_open_period_end_timestamp_seconds", "3600"),
    "CorrectionNotFinal": changed("oldest_open_correction_timestamp_seconds", "3600"),
    "OracleBelowQuorum": changed("signers_answering", "1"),
    "OracleSignerAway": healthy() | {ORACLE: f"0x{MINUTES}"},
    "GasLow": changed("batches_affordable", "29"),
    "AuditMismatch": changed("audit_mismatches", "1"),
    "NotAudited": changed("audited_timestamp_seconds", "3600"),
    "CoordinatorStuck": changed("advanced_timestamp_seconds", "3600"),
    "NoLeader": changed("leader", "0"),
    "CommunityWaits": changed("waiting", "1"),
    # Its other series are gone with it.
    "CoordinatorDown": {UP: f"0x{MINUTES}", ORACLE: f"1x{MINUTES}"},
}


def test_each_alert_is_played() -> None:
    given = yaml.safe_load(RULES.read_text())
    assert {rule["alert"] for group in given["groups"] for rule in group["rules"]} == set(OFF)


@pytest.mark.parametrize("alert", OFF)
def test_it_goes_off_and_no_other_does(alert: str, tmp_path: Path) -> None:
    assert firing([(OFF[alert], LATE, {alert})], tmp_path) == ""


def test_what_is_not_there_goes_off_too(tmp_path: Path) -> None:
    """A community that never opens, a process that nobody looks for, one that starts again and again."""
    never = {"CommunityWaits", "IntervalNotCleared", "NotAudited", "CoordinatorStuck", "NoLeader"}
    again_and_again = " ".join(["0 0 1"] * (MINUTES // 3))
    cases: list[tuple[Mapping[str, str], int, set[str]]] = [
        (configured() | {UP: f"1x{MINUTES}"}, LATE, never),
        ({ORACLE: f"1x{MINUTES}"}, 10, {"CoordinatorDown"}),
        ({UP: again_and_again}, LATE, {"CoordinatorDown"}),
    ]
    assert firing(cases, tmp_path) == ""


def test_none_goes_off_when_nothing_is_wrong(tmp_path: Path) -> None:
    cases: list[tuple[Mapping[str, str], int, set[str]]] = [
        (healthy(), LATE, set()),
        (healthy() | standby(), LATE, set()),
        # Restarted a moment ago.
        (healthy() | {UP: f"1x{LATE - 4} 0x0 1x10"}, LATE, set()),
        # Started more than two days after 1970, and audited within two hours.
        (changed("audited_timestamp_seconds", f"0x{MINUTES}"), 2880 + 110, set()),
        # A day of long ago is corrected.
        (changed("oldest_open_correction_timestamp_seconds", str(LATE * 60 - 80_000)), LATE, set()),
    ]
    assert firing(cases, tmp_path) == ""
