"""The coordinator's cycle: collect -> clear -> prove -> submit -> watch -> finalise."""
