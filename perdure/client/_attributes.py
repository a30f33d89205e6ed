"""The search attributes that a run starts with. Client side.

Written by whoever starts the run, they cost it nothing; written by the run itself, a command in its first workflow
task and 14 KiB of its worker's memory for as long as it is open (measured).
"""

import time
from collections.abc import Mapping
from typing import Final

from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError

from perdure._search_attributes import existing_search_attributes

_TTL_SECONDS: Final = 60.0


class StartAttributes:
    """Knows which of perdure's search attributes the server has: any other would fail the start."""

    def __init__(self, client: Client) -> None:
        """Ask this client's server, when there is something to write."""
        self._client = client
        self._known: frozenset[str] = frozenset()
        self._asked_at = float("-inf")

    async def of(self, values: Mapping[str, str]) -> TypedSearchAttributes:
        """Return those of `values` that are not empty and that the server has."""
        known = await self._existing()
        pairs = [
            SearchAttributePair(SearchAttributeKey.for_keyword(name), value)
            for name, value in values.items()
            if value and name in known
        ]
        return TypedSearchAttributes(pairs)

    async def _existing(self) -> frozenset[str]:
        if time.monotonic() - self._asked_at > _TTL_SECONDS:
            try:
                self._known = frozenset(await existing_search_attributes(self._client))
            except RPCError:
                self._known = frozenset()  # the run writes them itself
            self._asked_at = time.monotonic()
        return self._known
