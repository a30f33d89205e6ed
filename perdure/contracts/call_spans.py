"""What the span of an activity is called, and says, before the call is made. Both sides."""

from perdure.contracts import span_names as names
from perdure.contracts.calls import (
    CallModelRequest,
    CallToolRequest,
    RunToolRequest,
    SharedModelRequest,
    SharedToolRequest,
)
from perdure.contracts.spec import AgentSpec
from perdure.contracts.tracing import AttributeValue


def describe_call(activity: str, request: object, spec: AgentSpec | None) -> tuple[str, dict[str, AttributeValue]]:
    """Return the name of an activity's span, and what is known of the call before it is made.

    Args:
        activity: Its type.
        request: Its argument.
        spec: Of the agent, where it is known.
    """
    match request:
        case SharedModelRequest(call=call):
            return describe_call(activity, call, spec)
        case CallModelRequest():
            attributes: dict[str, AttributeValue] = {names.OPERATION: names.CHAT}
            if spec is None:
                return names.CHAT, attributes
            provider, _, model = spec.models[request.model].name.partition(":")
            return f"{names.CHAT} {model}", {**attributes, names.PROVIDER: provider, names.REQUEST_MODEL: model}
        case CallToolRequest(name=tool):
            return f"{names.EXECUTE_TOOL} {tool}", {names.OPERATION: names.EXECUTE_TOOL, names.TOOL: tool}
        case RunToolRequest(tool=tool) | SharedToolRequest(tool=tool):
            return f"{names.EXECUTE_TOOL} {tool.name}", {
                names.OPERATION: names.EXECUTE_TOOL,
                names.TOOL: tool.name,
            }
        case _:
            return activity.removeprefix("perdure."), {}
