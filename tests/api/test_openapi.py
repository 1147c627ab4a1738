"""The description of the interface against the interface: schemathesis makes requests from it and compares the answers."""

from __future__ import annotations

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

from tests.support.demo_site import ORIGIN, DemoWorld

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
)


@pytest.fixture(scope="session")
def api_schema(world: DemoWorld) -> Any:
    """The interface without the stream that does not end."""
    loaded = schemathesis.openapi.from_asgi("/api/v1/openapi.json", world.app)
    return loaded.exclude(path_regex="/events$")


schema = schemathesis.pytest.from_fixture("api_schema")


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_as_described(case: Any, world: DemoWorld) -> None:
    token = token_of(world, role_for(case.path))
    if "community" in case.path_parameters:
        case.path_parameters["community"] = "demo"
    case.call_and_validate(
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
