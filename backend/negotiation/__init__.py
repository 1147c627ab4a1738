"""Negotiation in the world: the command, agents as processes over a broker, and from what is agreed to signed trades and money.

The mathematics is in `backend.market.p2p`. Read `command`, then `messages`, `agent_process` and `gathering` for negotiation between
processes, then `agreement` and `settlement` for the money.
"""
