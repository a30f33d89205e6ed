"""The deterministic side: workflow classes, and what users call from theirs. Workflow side."""
