"""Data that crosses a process boundary. Both sides; stdlib and pydantic only."""
