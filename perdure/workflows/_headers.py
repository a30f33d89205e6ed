"""Headers of a run: what goes along with inputs that are the user's own. Workflow side."""

from collections.abc import Mapping
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload


def read_header(headers: Mapping[str, Payload], name: str, kind: type[Any]) -> Any:
    """Return what a header has; None where there is none."""
    payload = headers.get(name)
    return None if payload is None else workflow.payload_converter().from_payload(payload, kind)


def written_header(name: str, value: Any) -> dict[str, Payload]:
    """Return a header."""
    return {name: workflow.payload_converter().to_payload(value)}
