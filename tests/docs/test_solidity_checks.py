"""Checks of the Solidity sources whose tool cannot be had: said where that is allowed, failed where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import solidity


@pytest.mark.parametrize("check", [solidity.forge, solidity.solhint, solidity.slither])
def test_a_tool_that_cannot_be_had(
    check: Callable[[solidity.Say], bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solidity, "CONTRACTS", tmp_path)
    monkeypatch.setattr(solidity, "TOOLS", tmp_path)
    said: list[str] = []
    monkeypatch.delenv("PEERWATT_REQUIRE_SERVICES", raising=False)
    assert check(said.append)
    monkeypatch.setenv("PEERWATT_REQUIRE_SERVICES", "1")
    assert not check(said.append)
    assert said[1] == f"FAILED: {said[0]}"
