"""How users describe agents: data and plain functions. Both sides; imports no I/O."""
