"""Commitments: canonical encodings, trees, statements, batches and bundles. Pure functions.

docs/protocol.md specifies every byte; tests/vectors hold examples.
"""
