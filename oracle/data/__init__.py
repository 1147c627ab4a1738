"""Data sets shipped with the package, each under its own licence."""
