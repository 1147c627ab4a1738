"""The comparison under pair fees: what it measures is exact, and without its peer it says so."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from backend.bench import pair_matrix

MAKERS = [pair_matrix._meshed_grid, pair_matrix._radial_feeder, pair_matrix._random_fees]


@pytest.mark.parametrize("make", MAKERS)
def test_both_find_the_same_savings(make: Any) -> None:
    pytest.importorskip("ot", reason="POT is not installed: nothing to compare with")
    found = pair_matrix._compare("40 members", make(40), promised=False)
    assert found["ratio"] > 0
    assert found["note"].startswith("gap 0; ")
    assert float(found["note"].rsplit(" ", 1)[1]) < 1e-12


def test_without_its_peer_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    found = pair_matrix._compare("40 members", pair_matrix._random_fees(40), promised=True)
    assert found["theirs"] is None
    assert found["met"] is None
    assert "POT is not installed" in found["note"]
