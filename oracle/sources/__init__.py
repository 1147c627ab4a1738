"""Sources of meter readings, one module each."""
