"""The auditor: recomputes a community's periods from chain and bundle, trusting nobody.

Shares no clearing, pricing, encoding or tree code with the platform (import-linter enforces it); it follows
docs/protocol.md. Hashes come from `eth_abi` and `eth_account`, where the platform packs its own bytes.
"""
