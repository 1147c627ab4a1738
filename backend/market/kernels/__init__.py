"""The inner loops, over plain integer arrays, so that the same source runs interpreted and compiled.

Small markets run it as it stands. Large ones have it compiled by numba (extra `scale`), where it is installed; results are
the same, only sooner. Loops here are written for a compiler, one scalar at a time, on purpose.

Every integer stays below 2^63: prices are below 2^42 after shifts along a path, energies below 2^62 in sum.
"""
