"""What the platform remembers: members, readings, clearings, trades, batches and every account's entries, in SQL."""
