"""Activity side; owns what may be shown of vendors' texts and addresses. No I/O."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

HIDDEN = "***"

_SHORTEST_SECRET = 4

_TOKEN = re.compile(
    r"(?i:\bbearer)\s+[^\s'\",;]+"  # an Authorization header
    r"|\b(?:sk|rk|pk)-[\w*.-]{4,}"  # OpenAI, Anthropic, OpenRouter …
    r"|\b(?:gsk|xai|hf|nvapi)[-_][\w*.-]{8,}"
    r"|\bAIza[\w*-]{8,}"
    r"|[^\s'\",;]*\*{3,}[^\s'\",;]*"  # a key that the vendor has masked in part
)
_WORD = re.compile(r"[\w-]{6,}")
_URL = re.compile(r"\bhttps?://[^\s'\"<>)]+")
_BLANK = re.compile(r"\s+")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` without `secrets`, parts of them, tokens, and the private parts of URLs."""
    # Shorter ones are placeholders for servers that want no key, and may be part of any word.
    known = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
    text = _URL.sub(lambda match: show_url(match[0]), text)
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _TOKEN.sub(HIDDEN, text)
    if not known:
        return text
    return _WORD.sub(lambda match: HIDDEN if any(match[0] in each for each in known) else match[0], text)


def show_url(url: str) -> str:
    """Return `url` without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(an invalid URL)"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}{parts.path}"


def shorten(text: str, longest: int = 500) -> str:
    """Return `text` on one line, cut to `longest` characters."""
    text = _BLANK.sub(" ", text).strip()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
