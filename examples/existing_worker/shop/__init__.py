"""A shop that had Temporal before it had agents."""
