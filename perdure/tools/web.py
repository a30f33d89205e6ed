"""`fetch_url`: a tool that reads a page of the web. Both sides declare it; only activities run it."""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache

from perdure.agents.context import ToolContext
from perdure.agents.tool import Tool, tool
from perdure.errors import InvalidToolError

_TIMEOUT = timedelta(seconds=30)
_MARGIN = timedelta(seconds=5)
_MAX_BYTES = 2_000_000
_LARGEST_BYTES = 20_000_000


def fetch_url(
    *,
    name: str = "fetch_url",
    allow: Sequence[str] = (),
    timeout: timedelta = _TIMEOUT,
    max_bytes: int = _MAX_BYTES,
    max_redirects: int = 5,
    max_result_bytes: int = 64 * 1024,
) -> Tool:
    """Return a tool that fetches a page by http or https, and gives its text to the model.

    Addresses that aren't public are refused, at every redirect: a host is resolved once, all that it resolves to
    is checked, and the connection goes to what was checked. Proxies of the environment are not used.

    Args:
        name: What the model calls it.
        allow: Hosts that may be private: names or addresses as they stand in the URL, with `:port` where only that
            one is meant.
        timeout: For all of it: redirects, and the body.
        max_bytes: Longest body, decompressed; a longer one is refused. At most 20 MB.
        max_redirects: How many are followed.
        max_result_bytes: Longest text for the model; the rest is cut, with a notice.

    Raises:
        InvalidToolError: An option is out of range. Not retryable.
    """
    if isinstance(allow, str):
        raise InvalidToolError(f"fetch_url: allow is a list of hosts: allow=[{allow!r}].")
    for host in allow:
        if "/" in host or "*" in host or not host.strip():
            raise InvalidToolError(f"fetch_url: allow takes hosts, such as 'wiki.internal:8080', not {host!r}.")
    if not 1 <= max_bytes <= _LARGEST_BYTES:
        raise InvalidToolError(f"fetch_url: max_bytes is from 1 to {_LARGEST_BYTES:,}.")
    if not 0 <= max_redirects <= 20:
        raise InvalidToolError("fetch_url: max_redirects is from 0 to 20.")
    allowed = frozenset(host.lower().rstrip(".") for host in allow)
    return _make(name, allowed, timeout, max_bytes, max_redirects, max_result_bytes)


@cache  # the same tool for all agents of an app
def _make(
    name: str,
    allowed: frozenset[str],
    timeout: timedelta,
    max_bytes: int,
    max_redirects: int,
    max_result_bytes: int,
) -> Tool:
    @tool(
        name=name,
        idempotent=True,
        read_only=True,
        timeout=timeout + _MARGIN,
        max_attempts=2,
        max_result_bytes=max_result_bytes,
    )
    async def fetch(url: str, ctx: ToolContext) -> str:  # noqa: D417 - no model sees ctx
        """Fetch a page or a text file of the web, and return its text.

        Args:
            url: Its address, with http:// or https://.
        """
        from perdure.tools._fetching import Bounds, fetch_text

        bounds = Bounds(
            allowed=allowed,
            total_seconds=timeout.total_seconds(),
            max_bytes=max_bytes,
            max_redirects=max_redirects,
        )
        return await fetch_text(url, bounds)

    return fetch
