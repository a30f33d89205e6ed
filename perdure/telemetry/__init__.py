"""Traces, metrics and what is told of them. Activity and wiring side; workflow code never reaches it."""
