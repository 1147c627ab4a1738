"""Values and rules of the field: units, time, network, tariffs, members, readings, cases, errors.

Imports nothing else of ours and does no input or output.
"""
