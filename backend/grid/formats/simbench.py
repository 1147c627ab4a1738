"""The grid of a SimBench extract such as the bundled one."""

from __future__ import annotations

from pathlib import Path

from backend.domain.errors import InputError, MalformedInput
from oracle.sources.simbench import Feeder, load_feeder

from ..model import Bus, GridModel, Line, Source, Transformer


def read_extract(path: Path | None) -> Feeder:
    """A folder in the format of the bundled extract.

    Raises:
        MalformedInput: it is not like that.
        MemberWithoutBus: a connection point is at no bus.
    """
    try:
        return load_feeder(path)
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise MalformedInput(
            "grid", str(path), str(error), "give a folder like oracle/data/simbench"
        ) from None


def simbench_grid(feeder: Feeder, name: str = "1-LV-rural3") -> GridModel:
    """The grid of the SimBench extract; every connection point of it is one here."""
    plate = feeder.transformer
    return GridModel(
        name=name,
        buses=tuple(
            Bus(bus.bus, bus.nominal_voltage_v, bus.longitude_degree, bus.latitude_degree)
            for bus in feeder.buses
        ),
        lines=tuple(
            Line(
                line.line,
                line.from_bus,
                line.to_bus,
                line.resistance_ohm,
                line.reactance_ohm,
                line.capacitance_nanofarad,
                line.rated_current_a,
            )
            for line in feeder.lines
        ),
        transformers=(
            Transformer(
                plate.transformer,
                plate.high_voltage_bus,
                plate.low_voltage_bus,
                plate.rated_power_va,
                plate.high_voltage_v,
                plate.low_voltage_v,
                plate.short_circuit_voltage_percent,
                plate.short_circuit_resistance_percent,
                plate.iron_loss_w,
                plate.no_load_current_percent,
                plate.phase_shift_degree,
                "high_voltage" if plate.tap_side == "high_voltage" else "low_voltage",
                plate.tap_position,
                plate.tap_neutral,
                plate.tap_step_percent,
            ),
        ),
        source=Source(plate.high_voltage_bus, plate.source_voltage_per_unit),
        connection_points={item.connection_point: item.bus for item in feeder.elements},
    )
