"""Values of perdure's in headers of workflows: the input of a user's own class is the user's. Workflow side."""

from collections.abc import Mapping
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload


def read_header(headers: Mapping[str, Payload], name: str, kind: type[Any]) -> Any:
    """Return a value; None where it was not given."""
    payload = headers.get(name)
    return None if payload is None else workflow.payload_converter().from_payload(payload, kind)


def write_header(name: str, value: Any) -> dict[str, Payload]:
    """Return the header with a value."""
    return {name: workflow.payload_converter().to_payload(value)}
