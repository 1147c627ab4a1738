"""JSON under `/api/v1`. A route finds out who asks, and returns a read model."""
