"""An extract of the SimBench benchmark data set (ODbL 1.0, see README.md here)."""
