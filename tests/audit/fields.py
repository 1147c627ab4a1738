"""Random changes of one field anywhere in a structure that goes to a contract, within what its type can hold."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]
Part = dict[str, Any]


def fields_of(part: Part, value: Any, path: Path = ()) -> Iterator[tuple[Path, Part]]:
    """Every field of a structure, and every array as a whole."""
    kind = part["type"]
    if kind.endswith("]"):
        yield path, part
        inner = {**part, "type": kind[: kind.rindex("[")]}
        for index, item in enumerate(value):
            yield from fields_of(inner, item, (*path, index))
    elif kind == "tuple":
        for one in part["components"]:
            yield from fields_of(one, value[one["name"]], (*path, one["name"]))
    else:
        yield path, part


def changed(part: Part, value: Any, source: random.Random) -> tuple[Any, Path]:
    """The structure with one field other than it was, and which."""
    while True:
        path, kind = source.choice(list(fields_of(part, value)))
        old = value
        for key in path:
            old = old[key]
        new = _other(kind["type"], old, source)
        if new != old:
            return with_field(value, path, new), path


def with_field(value: Any, path: Path, new: Any) -> Any:
    """The structure with a field replaced."""
    if not path:
        return new
    made = copy.deepcopy(value)
    place = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return made


def _other(kind: str, old: Any, source: random.Random) -> Any:
    if kind.endswith("[]"):
        return _other_list(old, source)
    if kind.endswith("]"):  # of fixed length
        made = list(old)
        one, other = source.sample(range(len(made)), 2)
        made[one], made[other] = made[other], made[one]
        return made
    if kind == "bool":
        return not old
    if kind == "address":
        return "0x" + source.randbytes(20).hex()
    if kind.startswith(("uint", "int")):
        return other_number(kind, old, source)
    if kind == "bytes":
        what = source.randrange(4)
        if what == 0:
            return old[: source.randrange(len(old) + 1)]
        if what == 1:
            return old + source.randbytes(source.choice((1, 6, 8, 32)))
    elif source.random() < 0.3:
        return source.choice((bytes(len(old)), source.randbytes(len(old))))
    flipped = bytearray(old)
    if flipped:
        flipped[source.randrange(len(flipped))] ^= 1 << source.randrange(8)
    return bytes(flipped)


def _other_list(old: list[Any], source: random.Random) -> list[Any]:
    made = list(old)
    what = source.randrange(3)
    if what == 0 and made:
        made.pop(source.randrange(len(made)))
    elif what == 1 and made:
        made.insert(source.randrange(len(made) + 1), copy.deepcopy(source.choice(made)))
    else:
        source.shuffle(made)
    return made


def other_number(kind: str, old: int, source: random.Random) -> int:
    """Another number of a type; near, mirrored, far or at the ends."""
    signed = kind.startswith("int")
    bits = int(kind.removeprefix("u").removeprefix("int"))
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    new = source.choice(
        (
            old + 1,
            old - 1,
            -old,
            0,
            old ^ (1 << source.randrange(bits - 1)),
            old + source.randrange(-(10**9), 10**9),
            source.choice((low, high)),
            source.randrange(low, high + 1),
        )
    )
    return min(max(new, low), high)
