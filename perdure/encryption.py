"""Encryption of all that Temporal keeps for a project: `[tool.perdure.encryption]`. Client and worker side.

AES-256-GCM, in a payload codec, so that the server, its database, external storage and the web UI have ciphertext
alone; the format is that of Temporal's samples. Ids of keys are in the clear, and keys in the environment alone.
"""

import asyncio
import base64
import binascii
import hmac
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Outcome
from temporalio.client import (
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowHistoryEventAsyncIterator,
)
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverter,
    PayloadCodec,
    PayloadConverter,
)

from perdure._secrets import read_secret
from perdure.errors import EncryptionError, SettingsError
from perdure.settings import EncryptionTable, Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_log = logging.getLogger(__name__)

_ENCODING = b"binary/encrypted"
_CIPHER = b"AES256-GCM"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_THREAD_BYTES = 1_000_000
"""Payloads together from which on the event loop is not held up."""


@dataclass(frozen=True)
class KeyState:
    """A key of the settings, without the key."""

    id: str
    variable: str
    problem: str
    """Why it can't be used here; empty if it can."""
    is_primary: bool


class KeyRing:
    """The keys of a project. Each is read when it is first needed, and once more as long as it is missing."""

    def __init__(self, table: EncryptionTable, read: Callable[[str], str] = read_secret) -> None:
        """Read nothing yet; `read` returns the value of a variable, empty where it isn't set."""
        self.primary = table.key_id
        self._variables = {table.key_id: table.key_env, **table.old_keys}
        self._read = read
        self._keys: dict[str, bytes] = {}

    @property
    def states(self) -> list[KeyState]:
        """All keys that the settings name, the one that encrypts first."""
        return [
            KeyState(key_id, variable, _read_key(self._read(variable))[1], is_primary=key_id == self.primary)
            for key_id, variable in self._variables.items()
        ]

    @property
    def ids(self) -> list[str]:
        """All keys that the settings name, the one that encrypts first."""
        return list(self._variables)

    def check(self) -> None:
        """Raise SettingsError if nothing can be encrypted here."""
        state = self.states[0]
        if state.problem:
            raise SettingsError(
                f"[tool.perdure.encryption] key_env: {state.variable} {state.problem}. {_REMEDY}", key="encryption"
            )

    def get(self, key_id: str) -> bytes:
        """Return a key.

        Raises:
            EncryptionError: It isn't here. Retryable.
        """
        variable = self._variables.get(key_id)
        if variable is None:
            raise EncryptionError(
                f"It is encrypted with the key {key_id!r}, which [tool.perdure.encryption] doesn't name: add "
                "it to old_keys."
            )
        if key_id not in self._keys:
            key, problem = _read_key(self._read(variable))
            if key is None:
                raise EncryptionError(f"It needs the key {key_id!r}, and {variable} {problem}. {_REMEDY}")
            self._keys[key_id] = key
        return self._keys[key_id]

    def blind(self, key_id: str, digest: str) -> str:
        """Return a digest's own digest under a key: who lacks the key can't tell what it is of.

        Raises:
            EncryptionError: The key isn't here. Retryable.
        """
        apart = hmac.digest(self.get(key_id), b"perdure.blobs", "sha256")  # the key itself is for encryption alone
        return hmac.digest(apart, digest.encode(), "sha256").hex()


_REMEDY = "A key is 32 random bytes in base64: `openssl rand -base64 32`."


def _read_key(text: str) -> tuple[bytes | None, str]:
    if not text:
        return None, "isn't set here"
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None, "is no base64"
    return (key, "") if len(key) == _KEY_BYTES else (None, f"has {len(key)} bytes rather than {_KEY_BYTES}")


class EncryptionCodec(PayloadCodec):
    """Encrypts each payload whole, with its metadata, and takes back what it, or nobody, encrypted.

    Attributes:
        keys: The keys that are here.
    """

    def __init__(self, keys: KeyRing) -> None:
        """Work with these keys.

        Raises:
            SettingsError: The extra isn't installed. Not retryable.
        """
        self.keys = keys
        self._ciphers: dict[str, AESGCM] = {}
        self._missed: set[str] = set()
        try:
            from cryptography.hazmat.primitives.ciphers import aead  # only here: it is an extra
        except ImportError:
            raise SettingsError(
                "[tool.perdure.encryption] needs an extra: `pip install 'perdure[encryption]'`.", key="encryption"
            ) from None
        self._make = aead.AESGCM

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt; what is encrypted already stays.

        Raises:
            EncryptionError: The key isn't here. Retryable.
        """
        return await _each(self.encrypt, payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt; what isn't encrypted stays.

        Raises:
            EncryptionError: The key isn't here, or it is another one. Retryable.
        """
        return await _each(self.decrypt, payloads)

    def encrypt(self, payload: Payload) -> Payload:
        """Encrypt a payload, unless it is encrypted already.

        Raises:
            EncryptionError: The key isn't here. Retryable.
        """
        if payload.metadata.get("encoding") == _ENCODING:
            return payload
        key_id, nonce = self.keys.primary, os.urandom(_NONCE_BYTES)
        data = nonce + self._cipher(key_id).encrypt(nonce, payload.SerializeToString(), None)
        metadata = {"encoding": _ENCODING, "encryption-cipher": _CIPHER, "encryption-key-id": key_id.encode()}
        return Payload(metadata=metadata, data=data)

    def decrypt(self, payload: Payload) -> Payload:
        """Decrypt a payload, unless it isn't encrypted.

        Raises:
            EncryptionError: The key isn't here, or it is another one. Retryable.
        """
        if payload.metadata.get("encoding") != _ENCODING:
            return payload
        key_id = payload.metadata.get("encryption-key-id", b"").decode(errors="replace")
        nonce, data = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        cipher = self._cipher(key_id)
        from cryptography.exceptions import InvalidTag

        try:
            return Payload.FromString(cipher.decrypt(nonce, data, None))
        except (InvalidTag, ValueError):
            raise EncryptionError(
                f"It can't be decrypted with the key {key_id!r} that is here: another key has that id, or it was "
                "changed."
            ) from None

    def _cipher(self, key_id: str) -> "AESGCM":
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            try:
                cipher = self._ciphers[key_id] = self._make(self.keys.get(key_id))
            except EncryptionError as error:
                if key_id not in self._missed:  # a worker meets it on each retry of each run
                    self._missed.add(key_id)
                    _log.error("%s Runs that need it wait for a worker that has it.", error.message)
                raise
        return cipher


async def _each(work: Callable[[Payload], Payload], payloads: Sequence[Payload]) -> list[Payload]:
    if sum(len(payload.data) for payload in payloads) < _THREAD_BYTES:
        return [work(payload) for payload in payloads]
    return await asyncio.to_thread(lambda: [work(payload) for payload in payloads])


class ChainedCodec(PayloadCodec):
    """Two codecs: payloads go through the user's own first, and come back through it last."""

    def __init__(self, own: PayloadCodec, encryption: PayloadCodec) -> None:
        """Chain them."""
        self._own = own
        self.encryption = encryption

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encode by both."""
        return await self.encryption.encode(await self._own.encode(payloads))

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decode by both."""
        return await self._own.decode(await self.encryption.decode(payloads))


class EncryptedFailureConverter(DefaultFailureConverter):
    """Moves messages and stack traces into a payload, but for those that say which key is missing."""

    def __init__(self) -> None:
        """Encode them."""
        super().__init__(encode_common_attributes=True)
        self._plain = DefaultFailureConverter()

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Convert an exception."""
        if isinstance(exception, EncryptionError):
            self._plain.to_failure(exception, payload_converter, failure)
        else:
            super().to_failure(exception, payload_converter, failure)


class DecodedHistory(Interceptor):
    """For clients that read histories: what failures say is put back where it was.

    Failures that the SDK raises are decoded anyhow; those that are read as events are not.
    """

    def __init__(self, converter: DataConverter) -> None:
        """Decode by this converter."""
        self._converter = converter

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """Wrap the client."""
        return _Outbound(next, self._converter)


class _Outbound(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, converter: DataConverter) -> None:
        super().__init__(next)
        self._converter = converter

    def fetch_workflow_history_events(
        self, input: FetchWorkflowHistoryEventsInput
    ) -> WorkflowHistoryEventAsyncIterator:
        events = super().fetch_workflow_history_events(input)
        fetch = events.fetch_next_page

        async def fetch_decoded(*, page_size: int | None = None) -> None:
            await fetch(page_size=page_size)
            for event in events.current_page or ():
                await _reveal_event(event, self._converter)

        events.fetch_next_page = fetch_decoded  # its only way to the server
        return events


async def _reveal_event(event: HistoryEvent, converter: DataConverter) -> None:
    attributes = getattr(event, event.WhichOneof("attributes") or "", None)
    for _, value in attributes.ListFields() if attributes is not None else ():
        found = value.failure if isinstance(value, Outcome) and value.HasField("failure") else value
        if isinstance(found, Failure):
            await reveal_failure(found, converter)


async def reveal_failure(failure: Failure, converter: DataConverter) -> None:
    """Put message and stack trace of a failure, and of its causes, back where they were.

    Raises:
        EncryptionError: The key isn't here. Retryable.
    """
    if failure.HasField("encoded_attributes"):
        told = (await converter.decode([failure.encoded_attributes]))[0]
        failure.message = str(told.get("message", ""))
        failure.stack_trace = str(told.get("stack_trace", ""))
    if failure.HasField("cause"):
        await reveal_failure(failure.cause, converter)


def encryption_codec(settings: Settings) -> EncryptionCodec | None:
    """Return the codec of a project; None where none is configured.

    Raises:
        SettingsError: The extra isn't installed. Not retryable.
    """
    return None if settings.encryption is None else EncryptionCodec(KeyRing(settings.encryption))


def with_encryption(converter: DataConverter, codec: EncryptionCodec | None) -> DataConverter:
    """Return a converter that encrypts; a codec and a failure converter of its own are kept."""
    if codec is None:
        return converter
    own, failures = converter.payload_codec, converter.failure_converter_class
    if isinstance(own, EncryptionCodec | ChainedCodec):
        return converter  # composed before
    return replace(
        converter,
        payload_codec=codec if own is None else ChainedCodec(own, codec),
        failure_converter_class=EncryptedFailureConverter if failures is DefaultFailureConverter else failures,
    )


def check_keys(converter: DataConverter) -> None:
    """Raise SettingsError if a worker with this converter could encrypt nothing."""
    codec = converter.payload_codec
    encryption = codec.encryption if isinstance(codec, ChainedCodec) else codec
    if isinstance(encryption, EncryptionCodec):
        encryption.keys.check()
