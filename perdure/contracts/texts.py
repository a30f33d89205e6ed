"""Texts as a summary shows them. Both sides; pure."""


def one_line(text: str, limit: int = 100) -> str:
    """Return the start of a text on one line, at most `limit` characters."""
    flat = " ".join(text[: 4 * limit].split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
