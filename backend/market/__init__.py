"""The ex-post pool: from metered net positions to a certified least-cost clearing, prices and trades. Pure functions.

Read in this order: `network` (tariffs as a graph), `problem` (one interval in integers), `program` (the cvxpy engine),
`exact` (from any engine's answer to the canonical integer optimum), `certificate`, `pricing`, `trades`, `pool` (all of it).
"""
