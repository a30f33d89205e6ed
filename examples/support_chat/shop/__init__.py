"""A shop that answers its customers."""
