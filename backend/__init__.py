"""The platform: domain rules, market, settlement, chain, ledger, the coordinator's cycle, audit and the command line."""

import os

# The compiled keccak256; what `eth_hash.auto` takes by itself needs eight times as long. Chosen at the first hash.
os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")
