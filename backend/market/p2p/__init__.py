"""The forward peer-to-peer market: agents, three organisations, exact methods and negotiation. Pure functions.

Read in this order: `problem` (the market as arrays, and its dual), `organisations` (from a case), `certificate` (what is proven),
`sweep` (tariffs on trees), `dual` and `forest` (arbitrary pairs), `reference` (the same in cvxpy), `negotiator`, `sparse` and
`haggling` (negotiation), `consensus_innovation` (a baseline), `methods` (all of it), `results`.
"""
