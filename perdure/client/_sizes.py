"""What a client may send: refused before Temporal refuses it, with what to do instead. Client side."""

from temporalio.client import Client
from temporalio.service import RPCError

from perdure.errors import PayloadTooLargeError

MAX_INPUT_BYTES = 1_500_000
"""Temporal's limit is 2 MiB for a payload; the rest is room for what perdure adds."""
MAX_STORED_BYTES = 50_000_000
"""With external storage: the worker holds the input of an open run in memory, several times over."""

_TOO_LARGE = ("Blob data size exceeds limit", "larger than max", "size exceeds")
_REMEDY = "put it into a file or a service that a tool can read, and pass its name"


def check_input(size: int, client: Client) -> None:
    """Refuse an input that can't be sent.

    Raises:
        PayloadTooLargeError: It is too large. Not retryable.
    """
    has_storage = client.data_converter.external_storage is not None
    most = MAX_STORED_BYTES if has_storage else MAX_INPUT_BYTES
    if size > most:
        more = "" if has_storage else f", or configure [tool.perdure.storage], which takes {MAX_STORED_BYTES}"
        raise PayloadTooLargeError(f"The input takes {size} bytes, more than {most}: {_REMEDY}{more}.")


def too_large(error: RPCError, what: str) -> RPCError | PayloadTooLargeError:
    """Return PayloadTooLargeError where that is why Temporal refused, else `error`."""
    if any(text in error.message for text in _TOO_LARGE):
        return PayloadTooLargeError(f"{what} is too large for Temporal ({error.message}): {_REMEDY}.")
    return error
