"""The grid and its operator: model, AC power flow, coordination with the market (mechanism, section 10).

Needs the extra `grid` (power-grid-model) wherever a power flow is run; model, formats and distances do not.
"""
