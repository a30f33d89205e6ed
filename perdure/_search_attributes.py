"""Which of perdure's search attributes a server has, and adding the others. Client and activity side.

Writing one that isn't registered wedges a run, so whoever writes asks `existing_search_attributes` first.
"""

from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from perdure.contracts.names import SEARCH_ATTRIBUTES

_TIMEOUT = timedelta(seconds=5)
_NOT_ALLOWED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED)

_TYPES = {
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "Double": IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
    "Int": IndexedValueType.INDEXED_VALUE_TYPE_INT,
}


async def existing_search_attributes(client: Client) -> set[str]:
    """Return the names of perdure's search attributes that may be written.

    One that is registered with another type may not. None may if the server doesn't let us ask.

    Raises:
        RPCError: The server can't answer. Retryable.
    """
    try:
        registered = await _registered(client)
    except RPCError as error:
        if error.status in _NOT_ALLOWED:
            return set()
        raise
    return {name for name, kind in SEARCH_ATTRIBUTES.items() if registered.get(name) == _TYPES[kind]}


async def add_search_attributes(client: Client) -> list[str]:
    """Register perdure's search attributes that the server doesn't have, and return their names.

    One that is registered with another type is left as it is.

    Raises:
        RPCError: The server can't, or its credentials don't allow it.
    """
    registered = await _registered(client)
    missing = [name for name in SEARCH_ATTRIBUTES if name not in registered]
    if missing:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=client.namespace,
                search_attributes={name: _TYPES[SEARCH_ATTRIBUTES[name]] for name in missing},
            ),
            timeout=_TIMEOUT,
        )
    return missing


async def _registered(client: Client) -> dict[str, int]:
    response = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace), retry=True, timeout=_TIMEOUT
    )
    return dict(response.custom_attributes)
