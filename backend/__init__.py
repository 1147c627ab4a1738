"""The platform: domain rules, market, settlement, chain, ledger, the coordinator's cycle, audit and the command line."""
