"""What an agent's process runs: `python -m backend.negotiation.process`, its configuration on standard input.

Imports little: a household's gateway runs this too.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from backend.market.p2p.problem import Agents
from oracle.signing import private_key

from .agent import NegotiatingAgent
from .broker import Wire, run_agent


def agent_from(configuration: dict[str, Any]) -> NegotiatingAgent:
    """The agent of a configuration."""
    a, b, lower, upper = (np.array([value]) for value in configuration["agent"])
    outside = configuration["outside"] or (np.inf, -np.inf)
    return NegotiatingAgent(
        configuration["name"],
        Agents(a, b, lower, upper),
        configuration["costs"],
        private_key(bytes.fromhex(configuration["secret"])),
        configuration["session"],
        configuration["board"],
        *outside,
    )


def main() -> None:
    """An agent's process: reads its configuration from standard input."""
    configuration = json.load(sys.stdin)
    host, port = configuration["broker"]
    wire = Wire((host, port), configuration["session"], configuration["name"])
    run_agent(
        agent_from(configuration),
        wire,
        patience=configuration["patience"],
        seconds=configuration["seconds"],
    )
    wire.close()


if __name__ == "__main__":
    main()
