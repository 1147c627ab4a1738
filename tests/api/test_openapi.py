"""The description of the interface against the interface: schemathesis makes requests from it and compares the answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from backend.api.app import web_app
from backend.api.settings import WebSettings
from tests.support.demo_site import ORIGIN, DemoWorld, running_world

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
)


# Where a stranger's guess would find nothing, requests name what is there.
THERE = {"community": ["demo"], "slot": [3, 4], "number": [1, 2]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoWorld]:
    """Its own: what happens here, other tests do not see."""
    with running_world(tmp_path_factory.mktemp("demo")) as found:
        yield found


def description() -> dict[str, Any]:
    """As the application describes itself, whatever communities it has; without the stream that does not end."""
    made: dict[str, Any] = web_app({}, WebSettings()).openapi()
    paths = {path: item for path, item in made["paths"].items() if not path.endswith("/events")}
    for item in paths.values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in THERE:
                    parameter["schema"] = {"enum": THERE[parameter["name"]]}
    return made | {"paths": paths}


schema = schemathesis.openapi.from_dict(description())


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_answers_are_as_described(case: Any, world: DemoWorld) -> None:
    token = token_of(world, role_for(case.path))
    case.call_and_validate(
        app=world.app,
        base_url=ORIGIN,
        headers={"Authorization": f"Bearer {token}"},
        checks=list(CHECKS),
    )


def role_for(path: str) -> str:
    """Who gets furthest."""
    for part, role in (("/coordinator/", "coordinator"), ("/dso/", "dso"), ("/pairs/", "auditor")):
        if part in path:
            return role
    return "member"


def token_of(world: DemoWorld, role: str) -> str:
    return str(world.signed_in(role).cookies.get("peerwatt_session"))


def test_the_description_is_complete(world: DemoWorld) -> None:
    described = world.app.openapi()
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation.get("description"), where
            assert operation["tags"], where
            for parameter in operation.get("parameters", []):
                assert parameter["schema"], where
    assert described["components"]["schemas"]["Problem"]["required"]
