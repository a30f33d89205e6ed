"""Activity side; owns what the HTTP providers share: configuration, the exchange, encoded parts."""

from base64 import b64encode
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, ClassVar, Literal, Protocol

from perdure.contracts.spec import FINAL_OUTPUT_TOOL, ToolSpec
from perdure.providers._config import ProviderConfig
from perdure.providers._errors import VendorErrors
from perdure.providers._gate import Gates
from perdure.providers._http import Answer, Bounds, HeadSink, HttpLayer
from perdure.providers._wire import EncodedCache, dumps
from perdure.providers.base import ModelReply, ModelRequest

OutputChoice = Literal["text", "native", "tool"]

_OUTPUT_DESCRIPTION = "Give the final answer. Its arguments are the answer."
_OUTPUT_AMONG_TOOLS = " Call it once, when the work is done, instead of answering in text."


class ReplyReader(Protocol):
    """Puts an answer together."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to come."""
        ...

    def add(self, event: Any, /) -> None:
        """Take an event of a stream."""
        ...

    def add_whole(self, value: Any, /) -> None:
        """Take an answer that came at once."""
        ...

    def finish(self) -> ModelReply:
        """Return the reply."""
        ...


class HttpProvider:
    """The part of a provider that no wire format changes."""

    protocol_name: ClassVar[str]
    default_output: ClassVar[Literal["native", "tool"]]

    def __init__(self, config: ProviderConfig, http: HttpLayer, gates: Gates | None = None) -> None:
        self._config = config
        self._http = http
        self._gates = gates or Gates()
        self._encoded = EncodedCache()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._config!r})"

    @property
    def name(self) -> str:
        """The prefix of its models."""
        return self._config.name

    @property
    def protocol(self) -> str:
        """The wire format; fragments are kept by it, and vendor data is keyed by it."""
        return self.protocol_name

    def check(self) -> None:
        """Raise UnknownModelError if a call can't work for want of a key or an address."""
        self._config.check()

    def _errors(self) -> VendorErrors:
        config = self._config
        password = (config.userinfo() or "").partition(":")[2]
        secrets = (config.api_key() or "", password, *config.headers.values())
        return VendorErrors(self.name, config.api_key_env, secrets)

    async def _exchange(
        self,
        path: str,
        request: ModelRequest,
        *,
        headers: dict[str, str],
        reply: ReplyReader,
        errors: VendorErrors,
    ) -> ModelReply:
        """Send a request when it may go, and return what the reader makes of the answer."""
        body = self.body(request)
        gate = self._gates.gate(self.name, self._config.api_key())
        async with gate.admit(sum(map(len, body))) as admission:
            posting = self._post(path, body, headers, request, errors=errors, on_head=admission.see)
            del body  # it may take megabytes, and a model thinks for minutes
            async with posting as answer:
                if answer.is_stream:
                    async with aclosing(answer.events(lambda: reply.is_done)) as events:
                        async for event in events:
                            reply.add(event)
                else:
                    reply.add_whole(await answer.json())
            finished = reply.finish()
            admission.settle(finished.usage)
            return finished

    def body(self, request: ModelRequest) -> list[bytes]:
        """Return the request's body, in pieces."""
        raise NotImplementedError

    def _post(
        self,
        path: str,
        body: list[bytes],
        headers: dict[str, str],
        request: ModelRequest,
        *,
        errors: VendorErrors,
        on_head: HeadSink,
    ) -> AbstractAsyncContextManager[Answer]:
        settings = request.settings
        # A reply that isn't streamed comes all at once: until then silence is no sign of a stall.
        stall = settings.stall_timeout if settings.stream else settings.timeout
        bounds = Bounds(settings.timeout.total_seconds(), stall.total_seconds())
        userinfo = self._config.userinfo()
        if userinfo is not None:
            headers = {"authorization": f"Basic {b64encode(userinfo.encode()).decode()}", **headers}
        merged = {**headers, **{name.lower(): value for name, value in self._config.headers.items()}}
        url = self._config.endpoint(path)
        return self._http.post(url, headers=merged, body=body, bounds=bounds, errors=errors, on_head=on_head)

    def _encode_once(self, request: ModelRequest, key: tuple[str, ...], value: object) -> bytes:
        """Return `value` as JSON, kept for requests of the same `cache_key`."""
        if not request.cache_key:
            return dumps(value)
        full = (*key, bool(request.tools), request.output is not None)
        return self._encoded.get(full, lambda: dumps(value))

    def _output_choice(self, request: ModelRequest) -> OutputChoice:
        if request.output is None:
            return "text"
        mode = request.settings.output_mode
        return (self._config.auto_output or self.default_output) if mode == "auto" else mode


def offered_tools(request: ModelRequest, choice: OutputChoice, *, can_force: bool = True) -> tuple[ToolSpec, ...]:
    """Return the tools of a request, the one for the final output included.

    Where a model can't be forced to call that one, it is the only one left once no other may be called.
    """
    if choice != "tool" or request.output is None:
        return request.tools
    others = request.tools if can_force or request.may_call_tools else ()
    # Not by `others`: the tools must stay as the vendor has cached them.
    is_alone = can_force and not request.tools
    description = _OUTPUT_DESCRIPTION + ("" if is_alone else _OUTPUT_AMONG_TOOLS)
    final = ToolSpec(name=FINAL_OUTPUT_TOOL, description=description, parameters=request.output.parameters)
    return (*others, final)


def output_limit(request: ModelRequest) -> int | None:
    """Return the most tokens that the reply may have: the smaller of what run and agent say."""
    limits = [n for n in (request.max_output_tokens, request.settings.max_output_tokens) if n is not None]
    return min(limits, default=None)
