"""The oracle: meter readings come in signed, are validated, and k of n signers state them on chain as one report."""
