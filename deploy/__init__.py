"""The coordinator's deployment: contracts onto a chain, and this software onto a machine."""
