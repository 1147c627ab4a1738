"""The SimBench extract and the households made from it."""

from __future__ import annotations

import datetime
import hashlib
import importlib.resources
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oracle.sources.simbench import (
    INTERVALS_PER_DAY,
    ElementKind,
    Feeder,
    Household,
    available_days,
    behind_the_meter_wh,
    interval_energy_wh,
    load_feeder,
    select_households,
)

DATA = Path(str(importlib.resources.files("oracle.data.simbench")))
SUNNY_DAY = datetime.date(2016, 6, 10)
WINTER_DAY = datetime.date(2016, 1, 27)
STEPS_PER_WATT_HOUR = 400_000


@pytest.fixture(scope="module")
def feeder() -> Feeder:
    return load_feeder()


@pytest.fixture(scope="module")
def households(feeder: Feeder) -> tuple[Household, ...]:
    return select_households(feeder, 20, 0)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The data files in a directory where a test may spoil them."""
    for path in DATA.glob("*.csv"):
        shutil.copy(path, tmp_path)
    return tmp_path


def spoil(directory: Path, file: str, old: str, new: str) -> None:
    path = directory / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8", newline="\n")


class TestFiles:
    def test_every_file_has_the_checksum_it_was_published_with(self) -> None:
        listed = {}
        for line in (DATA / "CHECKSUMS.sha256").read_text("utf-8").splitlines():
            digest, name = line.split("  ")
            listed[name] = digest
        there = {
            path.name
            for path in DATA.iterdir()
            if path.is_file() and path.suffix not in (".py", ".sha256")
        }
        assert set(listed) == there
        for name, digest in listed.items():
            assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest, name

    def test_the_extract_is_small_and_carries_its_licence(self) -> None:
        assert sum(path.stat().st_size for path in DATA.iterdir() if path.is_file()) < 2_000_000
        assert "Open Database License" in (DATA / "LICENSE.txt").read_text("utf-8")
        readme = (DATA / "README.md").read_text("utf-8")
        for notice in ("ODbL-1.0", "www.simbench.de", "10.3390/en13123290", "Meinecke"):
            assert notice in readme


class TestFeeder:
    def test_shape_of_the_extract(self, feeder: Feeder) -> None:
        kinds = Counter(element.kind for element in feeder.elements)
        assert kinds == {
            ElementKind.HOUSEHOLD: 113,
            ElementKind.COMMERCIAL: 5,
            ElementKind.PV: 27,
            ElementKind.HEAT_PUMP: 18,
            ElementKind.EV: 17,
        }
        assert len({element.connection_point for element in feeder.elements}) == 118
        assert (len(feeder.buses), len(feeder.lines)) == (129, 127)
        assert feeder.transformer.rated_power_va == 400_000

    def test_days_are_four_summer_weeks_and_one_winter_week(self, feeder: Feeder) -> None:
        days = available_days(feeder)
        winter, summer = days[:7], days[7:]
        assert (winter[0], winter[-1]) == (datetime.date(2016, 1, 25), datetime.date(2016, 1, 31))
        assert (summer[0], summer[-1]) == (datetime.date(2016, 6, 6), datetime.date(2016, 7, 3))
        assert len(summer) == 28
        assert winter[0].weekday() == summer[0].weekday() == 0

    def test_profiles_are_read_only_and_whole_days(self, feeder: Feeder) -> None:
        for window in feeder.windows:
            for name, profile in window.profiles.items():
                assert profile.shape == (96 * window.days,), name
                assert profile.dtype == np.int64
                assert not profile.flags.writeable
                assert 0 <= profile.min() <= profile.max() <= 100_000

    def test_a_decimal_is_read_without_rounding(self, copy: Path) -> None:
        lines = (copy / "profiles.csv").read_text("utf-8").splitlines()
        column = lines[0].split(",").index("H0-A")
        window = load_feeder(copy).windows[0]
        for line, steps in zip(lines[1:97], window.profiles["H0-A"], strict=False):
            assert int(steps) == round(float(line.split(",")[column]) * 100_000)

    def test_zones_are_the_branches_at_the_busbar(self, feeder: Feeder) -> None:
        zones = {bus.bus: bus.zone for bus in feeder.buses}
        busbar = feeder.transformer.low_voltage_bus
        neighbours = defaultdict(set)
        for line in feeder.lines:
            neighbours[line.from_bus].add(line.to_bus)
            neighbours[line.to_bus].add(line.from_bus)
        seen = {busbar}
        branches = []
        for start in sorted(neighbours[busbar]):
            waiting, branch = [start], set()
            while waiting:
                bus = waiting.pop()
                if bus not in seen:
                    seen.add(bus)
                    branch.add(bus)
                    waiting.extend(neighbours[bus])
            branches.append(branch)
        assert len(branches) == 9
        for branch in branches:
            assert len({zones[bus] for bus in branch}) == 1
        assert len({zones[next(iter(branch))] for branch in branches}) == 9
        # Everything but the 20 kV bus hangs on the busbar, without a loop.
        assert len(seen) == len(feeder.lines) + 1 == len(feeder.buses) - 1


class TestSun:
    """PV tells whether the times are UTC: the grid is at 53.7 degrees north, 11.4 east."""

    def test_no_sun_at_night(self, feeder: Feeder) -> None:
        winter, summer = feeder.windows
        # (window, first and last quarter-hour with some sun), sunrise and sunset with some margin
        for window, sunrise, sunset in ((winter, 7 * 4, 16 * 4), (summer, 2 * 4 + 2, 20 * 4)):
            for name in ("PV1", "PV3", "PV4", "PV7"):
                by_day = window.profiles[name].reshape(-1, INTERVALS_PER_DAY)
                assert by_day[:, :sunrise].sum() == 0, name
                assert by_day[:, sunset:].sum() == 0, name
                assert by_day.sum() > 0

    def test_the_middle_of_production_is_near_solar_noon(self, feeder: Feeder) -> None:
        hours = (np.arange(INTERVALS_PER_DAY) + 0.5) / 4
        for window, solar_noon in zip(feeder.windows, (11.45, 11.27), strict=True):
            roofs = [window.profiles[name] for name in ("PV1", "PV3", "PV4", "PV7")]
            mean_day = np.sum(roofs, axis=0).reshape(-1, INTERVALS_PER_DAY).sum(axis=0)
            middle = float((mean_day * hours).sum() / mean_day.sum())
            assert abs(middle - solar_noon) < 0.75
            peak = hours[int(mean_day.argmax())]
            assert abs(peak - solar_noon) < 1.5


class TestSelection:
    def test_twenty_members_spread_over_the_zones(self, households: tuple[Household, ...]) -> None:
        assert len(households) == 20
        assert Counter(household.zone for household in households) == {
            f"feeder-{number}": 4 for number in range(1, 6)
        }
        assert households[0].household_id == "house-01"
        assert households[19].household_id == "house-20"
        assert len({household.connection_point for household in households}) == 20
        assert not any(household.derived for household in households)

    @pytest.mark.parametrize("seed", range(25))
    def test_every_seed_gives_sellers_and_buyers_in_each_zone(
        self, feeder: Feeder, seed: int
    ) -> None:
        households = select_households(feeder, 20, seed)
        zones = defaultdict(list)
        for household in households:
            zones[household.zone].append(household.pv_peak_w > 0)
        assert len(zones) >= 3
        for has_pv in zones.values():
            assert set(has_pv) == {True, False}
        assert any(household.has_heat_pump for household in households)
        assert any(household.has_ev for household in households)

    def test_the_order_depends_on_the_seed_only(self, feeder: Feeder) -> None:
        many = select_households(feeder, 300, 7)
        assert many == select_households(load_feeder(), 300, 7)
        for members in (1, 2, 20, 113, 114, 299):
            assert select_households(feeder, members, 7) == many[:members]
        assert select_households(feeder, 20, 7) != select_households(feeder, 20, 8)

    def test_every_real_household_comes_before_a_derived_one(self, feeder: Feeder) -> None:
        households = select_households(feeder, 200, 0)
        assert [household.derived for household in households] == [False] * 113 + [True] * 87
        assert len({household.household_id for household in households}) == 200
        assert len({household.connection_point for household in households[:113]}) == 113

    def test_a_derived_household_is_scaled_and_shifted(self, feeder: Feeder) -> None:
        households = select_households(feeder, 339, 0)
        for original, derived in zip(households[:113], households[113:226], strict=True):
            assert derived.connection_point == original.connection_point
            assert 700 <= derived.scale_permille <= 1300
            assert abs(derived.load_shift_quarter_hours) <= 4
            for mine, its in zip(derived.elements, original.elements, strict=True):
                exact = its.rated_power_w * derived.scale_permille / 1000
                assert abs(mine.rated_power_w - exact) <= 0.5
        made = households[113:]
        assert len({household.scale_permille for household in made}) > 100
        assert {household.load_shift_quarter_hours for household in made} == set(range(-4, 5))
        # The second copy of a household is another one than the first.
        assert households[113].elements != households[226].elements

    def test_shift_moves_load_and_never_pv(self, feeder: Feeder) -> None:
        derived = [
            household
            for household in select_households(feeder, 200, 0)[113:]
            if household.pv_peak_w and household.load_shift_quarter_hours
        ]
        assert derived
        for household in derived:
            shift = household.load_shift_quarter_hours
            steps = np.zeros(28 * INTERVALS_PER_DAY, dtype=np.int64)
            sun = np.zeros_like(steps)
            for element in household.elements:
                profile = feeder.windows[1].profiles[element.profile] * element.rated_power_w
                if element.kind is ElementKind.PV:
                    sun += profile
                else:
                    steps += profile
            first = (SUNNY_DAY - feeder.windows[1].first_day).days * INTERVALS_PER_DAY
            day = slice(first, first + INTERVALS_PER_DAY)
            consumed, produced = behind_the_meter_wh(household, SUNNY_DAY, feeder)
            assert np.abs(consumed - np.roll(steps, shift)[day] / STEPS_PER_WATT_HOUR).max() < 1
            assert np.abs(produced - sun[day] / STEPS_PER_WATT_HOUR).max() < 1

    @pytest.mark.parametrize("members", [0, -1])
    def test_refuses_an_empty_community(self, feeder: Feeder, members: int) -> None:
        with pytest.raises(ValueError, match=f"at least 1, not {members}"):
            select_households(feeder, members, 0)

    def test_refuses_a_grid_without_households(self, feeder: Feeder) -> None:
        businesses = tuple(e for e in feeder.elements if e.kind is ElementKind.COMMERCIAL)
        with pytest.raises(ValueError, match="no element of kind 'household'"):
            select_households(replace(feeder, elements=businesses), 20, 0)


class TestEnergy:
    def test_shape_and_sign(self, feeder: Feeder, households: tuple[Household, ...]) -> None:
        for household in households:
            for day in (SUNNY_DAY, WINTER_DAY):
                imported, exported = interval_energy_wh(household, day, feeder)
                for energy in (imported, exported):
                    assert energy.shape == (INTERVALS_PER_DAY,)
                    assert energy.dtype == np.int64
                    assert energy.min() >= 0
                assert not np.any((imported > 0) & (exported > 0))

    def test_rounding_loses_less_than_a_watt_hour_in_four_weeks(
        self, feeder: Feeder, households: tuple[Household, ...]
    ) -> None:
        window = feeder.windows[1]
        days = available_days(feeder)[7:]
        for household in households:
            net = np.zeros(28 * INTERVALS_PER_DAY, dtype=np.int64)
            for element in household.elements:
                sign = -1 if element.kind is ElementKind.PV else 1
                net += sign * element.rated_power_w * window.profiles[element.profile]
            exact = {
                "import": net[net > 0].sum() / STEPS_PER_WATT_HOUR,
                "export": -net[net < 0].sum() / STEPS_PER_WATT_HOUR,
            }
            counted = {"import": 0, "export": 0}
            for day in days:
                imported, exported = interval_energy_wh(household, day, feeder)
                counted["import"] += int(imported.sum())
                counted["export"] += int(exported.sum())
            for register, energy_wh in exact.items():
                assert 0 <= energy_wh - counted[register] < 1

    def test_rounding_within_one_day(
        self, feeder: Feeder, households: tuple[Household, ...]
    ) -> None:
        """Import less export is consumption less production, but for what registers hold back."""
        for household in households:
            imported, exported = interval_energy_wh(household, SUNNY_DAY, feeder)
            consumed, produced = behind_the_meter_wh(household, SUNNY_DAY, feeder)
            difference = (imported - exported) - (consumed - produced)
            assert np.abs(difference).max() <= 3
            assert abs(int(difference.sum())) <= 3

    def test_a_household_without_pv_never_exports(
        self, feeder: Feeder, households: tuple[Household, ...]
    ) -> None:
        for household in households:
            if household.pv_peak_w == 0:
                imported, exported = interval_energy_wh(household, SUNNY_DAY, feeder)
                consumed, produced = behind_the_meter_wh(household, SUNNY_DAY, feeder)
                assert exported.sum() == produced.sum() == 0
                assert np.array_equal(imported, consumed)

    def test_one_quarter_hour_by_hand(self, feeder: Feeder) -> None:
        """2 kW of H0-A less 9.1 kWp of PV7, from midnight UTC on the first summer day."""
        household = next(
            household
            for household in select_households(feeder, 113, 0)
            if (household.pv_peak_w, household.zone) == (9100, "feeder-4")
        )
        day = feeder.windows[1].first_day
        load = feeder.windows[1].profiles["H0-A"]
        imported, _ = interval_energy_wh(household, day, feeder)
        assert imported[0] == 2000 * int(load[0]) // STEPS_PER_WATT_HOUR
        assert imported[:2].sum() == 2000 * int(load[:2].sum()) // STEPS_PER_WATT_HOUR

    def test_a_sunny_day_has_surplus_at_noon_and_shortage_at_both_ends(
        self, feeder: Feeder, households: tuple[Household, ...]
    ) -> None:
        imported = np.zeros(INTERVALS_PER_DAY, dtype=np.int64)
        exported = np.zeros_like(imported)
        for household in households:
            its_import, its_export = interval_energy_wh(household, SUNNY_DAY, feeder)
            imported += its_import
            exported += its_export
        noon, evening, night = slice(40, 56), slice(76, 92), slice(0, 16)
        assert exported[noon].sum() > 5 * imported[noon].sum() > 0
        assert imported[evening].sum() > 5 * exported[evening].sum()
        assert imported[night].sum() > 0
        assert exported[night].sum() == 0

    @pytest.mark.parametrize(
        "day",
        [
            datetime.date(2016, 1, 24),
            datetime.date(2016, 2, 1),
            datetime.date(2016, 7, 4),
            datetime.date(2026, 6, 21),
        ],
    )
    def test_a_day_without_data_is_named(
        self, feeder: Feeder, households: tuple[Household, ...], day: datetime.date
    ) -> None:
        expected = f"{day}.*2016-01-25 to 2016-01-31 and 2016-06-06 to 2016-07-03"
        with pytest.raises(ValueError, match=expected):
            interval_energy_wh(households[0], day, feeder)
        with pytest.raises(ValueError, match=expected):
            behind_the_meter_wh(households[0], day, feeder)

    def test_a_profile_that_is_not_there_is_named(
        self, feeder: Feeder, households: tuple[Household, ...]
    ) -> None:
        element = replace(households[0].elements[0], profile="H0-Z")
        household = replace(households[0], elements=(element,))
        with pytest.raises(ValueError, match="no column 'H0-Z'"):
            interval_energy_wh(household, SUNNY_DAY, feeder)


class TestRefusals:
    """A broken file is refused with its name, line, field and value."""

    @pytest.mark.parametrize(
        ("file", "old", "new", "message"),
        [
            ("connection_points.csv", ",3000,", ",3e3,", "line 2, field rated_power_w: '3e3'"),
            ("connection_points.csv", ",3000,", ",0,", "line 2, field rated_power_w: '0'"),
            ("connection_points.csv", ",household,", ",castle,", "line 2, field kind: 'castle'"),
            ("connection_points.csv", ",H0-B,", ",H0-Z,", "line 2, field profile: 'H0-Z'"),
            (
                "connection_points.csv",
                "bus-001",
                "bus-999",
                "line 2, field bus: no bus of buses.csv (value: 'bus-999')",
            ),
            ("connection_points.csv", "bus-001", "bus-002", "line 3, field bus: 'bus-001'"),
            ("connection_points.csv", "feeder-5", "feeder-1", "line 2, field zone: 'feeder-1'"),
            ("connection_points.csv", "kind", "sort", "line 1, field kind"),
            ("connection_points.csv", "cp001,", "cp001,,", "line 2: 8 fields, not 7"),
            ("buses.csv", "bus-002", "bus-001", "line 3, field bus: 'bus-001'"),
            ("buses.csv", ",feeder-5,", ",,", "line 2, field zone: ''"),
            ("buses.csv", "11.4096", "east", "line 2, field longitude_degree: 'east'"),
            ("lines.csv", "line-002", "line-001", "line 3, field line: 'line-001'"),
            ("buses.csv", ",400,", ",low,", "line 2, field nominal_voltage_v: 'low'"),
            ("buses.csv", "11.4096", "nan", "line 2, field longitude_degree: 'nan'"),
            ("lines.csv", "bus-037", "bus-999", "line 2, field from_bus: 'bus-999'"),
            ("lines.csv", "1.33432", "-1", "line 2, field length_m: '-1'"),
            ("transformer.csv", "400000", "", "line 2, field rated_power_va: ''"),
            ("profiles.csv", "T00:15:00Z", "T00:14:00Z", "interval_start_utc: '2016-01-25T00:14"),
            ("profiles.csv", "T00:15:00Z", "T00:15:00", "line 3, field interval_start_utc"),
            ("profiles.csv", "25T00:00:00Z", "24T23:45:00Z", "line 2, field interval_start_utc"),
            ("profiles.csv", "T00:00:00Z,0,", "T00:00:00Z,-0.1,", "APLS_A_11.0: '-0.1'"),
            ("profiles.csv", "T00:00:00Z,0,", "T00:00:00Z,0.123456,", "APLS_A_11.0: '0.123456'"),
            ("profiles.csv", "T00:00:00Z,0,", "T00:00:00Z,2.1,", "APLS_A_11.0: '2.1'"),
            ("profiles.csv", "T00:00:00Z,0,", "T00:00:00Z,,", "APLS_A_11.0: ''"),
            ("profiles.csv", "PV3,PV4", "PV3,PV3", "line 1: a field is named twice"),
        ],
    )
    def test_a_broken_value(self, copy: Path, file: str, old: str, new: str, message: str) -> None:
        spoil(copy, file, old, new)
        with pytest.raises(ValueError, match="^" + file + ".*") as refusal:
            load_feeder(copy)
        assert message in str(refusal.value)

    def test_a_day_cut_short(self, copy: Path) -> None:
        path = copy / "profiles.csv"
        lines = path.read_text("utf-8").splitlines()
        path.write_text("\n".join(lines[:-1]) + "\n", "utf-8")
        with pytest.raises(ValueError, match=r"line 3360, field interval_start_utc: .*T23:30:00Z"):
            load_feeder(copy)

    def test_time_running_backwards(self, copy: Path) -> None:
        path = copy / "profiles.csv"
        lines = path.read_text("utf-8").splitlines()
        winter, summer = lines[1 : 1 + 7 * 96], lines[1 + 7 * 96 :]
        path.write_text("\n".join([lines[0], *summer, *winter]) + "\n", "utf-8")
        with pytest.raises(ValueError, match="is not later than the line above"):
            load_feeder(copy)

    def test_no_quarter_hours(self, copy: Path) -> None:
        path = copy / "profiles.csv"
        path.write_text(path.read_text("utf-8").splitlines()[0] + "\n", "utf-8")
        with pytest.raises(ValueError, match="no quarter-hours"):
            load_feeder(copy)

    def test_two_transformers(self, copy: Path) -> None:
        path = copy / "transformer.csv"
        lines = path.read_text("utf-8").splitlines()
        path.write_text("\n".join([*lines, lines[1]]) + "\n", "utf-8")
        with pytest.raises(ValueError, match="2 transformers, not 1"):
            load_feeder(copy)

    def test_a_missing_file(self, copy: Path) -> None:
        (copy / "lines.csv").unlink()
        with pytest.raises(FileNotFoundError):
            load_feeder(copy)
