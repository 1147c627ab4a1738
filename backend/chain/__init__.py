"""The way to an Ethereum-compatible chain: embedded or by URL, transactions sent and recorded, errors decoded."""
