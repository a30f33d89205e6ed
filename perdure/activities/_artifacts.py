"""Artifacts of plans, put into a message just before a model is asked. Activity side; reads, never records."""

from datetime import timedelta

from pydantic import JsonValue
from temporalio import activity
from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError

from perdure.contracts.messages import ArtifactPart, Message, TextPart
from perdure.contracts.names import ARTIFACT_QUERY
from perdure.contracts.plan import ArtifactQuery, ArtifactValue
from perdure.contracts.references import as_text, follow
from perdure.errors import ConversationUnavailableError, UserError
from perdure.history import read_output

_QUERY_TIMEOUT = timedelta(seconds=3)


async def with_artifacts(message: Message) -> Message:
    """Return a message with the text of the artifacts that it refers to.

    Raises:
        ConversationUnavailableError: The plan's workflow did not answer. Retryable.
        UserError: There is no such artifact, or it hasn't the field. Not retryable.
    """
    if not any(isinstance(part, ArtifactPart) for part in message.parts):
        return message
    parts = [
        TextPart(text=as_text(await _read(part))) if isinstance(part, ArtifactPart) else part
        for part in message.parts
    ]
    return message.model_copy(update={"parts": tuple(parts)})


async def _read(part: ArtifactPart) -> JsonValue:
    client = activity.client()
    handle = client.get_workflow_handle(part.workflow_id, run_id=part.run_id)
    query = ArtifactQuery(plan=part.plan, name=part.name)
    try:
        found: ArtifactValue = await handle.query(
            ARTIFACT_QUERY, query, result_type=ArtifactValue, rpc_timeout=_QUERY_TIMEOUT
        )
        path = part.path
        if not found.workflow_id:
            return follow(found.value, path)
        output = await read_output(client, found.workflow_id)
        return follow(output, (found.field, *path) if found.field else path)
    except WorkflowQueryFailedError as error:
        raise UserError(f"{part.reference} can't be read: {error}") from None
    except LookupError as error:
        raise UserError(f"{part.reference}: {error.args[0]}.") from None
    except RPCError as error:
        raise ConversationUnavailableError(f"{part.reference} can't be read just now: {error}") from None
