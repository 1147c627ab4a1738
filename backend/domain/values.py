"""What all serialisable values share: frozen, strict about types, no unknown fields, errors that name the field."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from .errors import InputError, MalformedInput, OutOfRange
from .units import ENERGY_LIMIT_WH, PRICE_LIMIT_NANO_PER_WH

Identifier = Annotated[str, Field(min_length=1, max_length=128)]
NetEnergyWh = Annotated[int, Field(ge=-ENERGY_LIMIT_WH, le=ENERGY_LIMIT_WH)]
EnergyWh = Annotated[int, Field(ge=0, le=ENERGY_LIMIT_WH)]
PriceNanoPerWh = Annotated[int, Field(gt=-PRICE_LIMIT_NANO_PER_WH, lt=PRICE_LIMIT_NANO_PER_WH)]
FeeNanoPerWh = Annotated[int, Field(ge=0, lt=PRICE_LIMIT_NANO_PER_WH)]

_RANGE_ERRORS = {
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "int_parsing_size",
}


class Value(BaseModel):
    """Base of all serialisable values."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )

    @classmethod
    def from_data(cls, data: Any, where: str = "") -> Self:
        """Builds the value from plain JSON data.

        Args:
            data: what `json.loads` gave.
            where: path in front of the field names in errors.

        Raises:
            InputError: naming field, value and remedy.
        """
        try:
            # By way of JSON, where strict mode still takes lists for tuples and ISO text for times.
            return cls.model_validate_json(json.dumps(data))
        except ValidationError as error:
            raise input_error(error, where) from None
        except (TypeError, ValueError) as error:
            raise MalformedInput(where or "input", data, str(error), "give JSON values") from None


def input_error(error: ValidationError, where: str = "") -> InputError:
    """The first fault pydantic found, as an error of ours."""
    fault = error.errors(include_url=False)[0]
    path = where
    for part in fault["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    kind = OutOfRange if fault["type"] in _RANGE_ERRORS else MalformedInput
    more = error.error_count() - 1
    problem = fault["msg"][0].lower() + fault["msg"][1:]
    if more:
        problem += f" ({more} more after this one)"
    return kind(path or "input", fault["input"], problem, _remedy(fault["type"], fault))


def _remedy(kind: str, fault: Any) -> str:
    context = fault.get("ctx", {})
    match kind:
        case "missing":
            return "add the field"
        case "extra_forbidden":
            return "remove the field, or check its spelling"
        case "greater_than" | "greater_than_equal":
            return f"give a number {'above' if kind == 'greater_than' else 'of at least'} {context.get('gt', context.get('ge'))}"
        case "less_than" | "less_than_equal":
            return f"give a number {'below' if kind == 'less_than' else 'of at most'} {context.get('lt', context.get('le'))}"
        case "int_type" | "int_from_float" | "int_parsing":
            return "give a whole number without quotes, in the unit that the field's name ends with"
        case "int_parsing_size":
            return "give a number of at most 64 bits"
        case _:
            return "see docs/files.md for the format"


def parse_json(text: str | bytes, name: str | PurePath) -> Any:
    """JSON with the position of the fault in the error; NaN, infinities and repeated names are refused.

    Raises:
        MalformedInput: naming the file and what is wrong.
    """

    def refuse_constant(constant: str) -> Any:
        raise MalformedInput(str(name), constant, "not a number", "give a finite number")

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            raise MalformedInput(str(name), twice, "the same name twice in one object", "keep one")
        return found

    try:
        # Knows a limit to nesting, where the standard parser can overflow the stack of the whole process.
        from_json(text)
    except ValueError as error:
        raise MalformedInput(str(name), str(error), "not JSON", "mend the file there") from None
    try:
        return json.loads(text, parse_constant=refuse_constant, object_pairs_hook=refuse_duplicates)
    except InputError:
        raise
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedInput(str(name), str(error), "not JSON", "mend the file there") from None
    except ValueError as error:  # an integer with more digits than Python converts
        raise MalformedInput(str(name), str(error), "not a usable number", "shorten it") from None
