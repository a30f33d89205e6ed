"""How long the server keeps what shared calls are answered with. Wiring only."""

from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from perdure.agents.registry import Registry
from perdure.errors import SettingsError


async def check_retention(client: Client, registry: Registry) -> None:
    """Refuse a `ttl` that the server can't keep; a server that doesn't say how long it keeps is not asked again.

    Raises:
        SettingsError: A tool's results would have to outlive the namespace's retention. Not retryable.
    """
    longest = registry.longest_ttl
    if longest is None:
        return
    try:
        described = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace)
        )
    except RPCError:
        return
    retention = described.config.workflow_execution_retention_ttl.ToTimedelta()
    name, ttl = longest
    if timedelta(0) < retention < ttl:
        raise SettingsError(
            f"{name}: its ttl is {ttl}, and the namespace {client.namespace!r} keeps results for {retention}: "
            "make it shorter, or raise the namespace's retention."
        )
