"""The ex-post pool: from metered net positions to a certified least-cost clearing, prices and trades. Pure functions.

Read in this order: `network` (uniform and zonal tariffs as a graph; `electrical_distance_fees` makes one from a grid),
`problem` (one interval in integers), `program` (the cvxpy engine), `exact` (from any engine's answer to the canonical integer
optimum), `certificate`, `pricing`, `trades`, `pool` (all of it). For large communities `tree_sweep` and `bulk` do the same on
arrays, with the loops of `kernels`.
"""
