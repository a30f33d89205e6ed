"""Bytes by digest, on the worker's disk. Activity side; Event History holds references only.

Where payloads are encrypted, blobs are too, in the same format. A reference holds the digest of the bytes, and is
encrypted with the history that it is in. A file is named by that digest's hash under the key that encrypts: the
bare digest would tell whoever sees the folder whether a known document is there. So the same bytes are stored
once under each key, and what is put never depends on an older one.
"""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload

from perdure.contracts.messages import BlobRef
from perdure.encryption import EncryptionCodec
from perdure.errors import EncryptionError, ToolError

_PREFIX = "sha256:"
_METADATA = {"encoding": b"binary/plain"}


class BlobStore:
    """A folder of blobs, each in a file of its own.

    Workers on several machines need a folder that they share.
    """

    def __init__(self, folder: Path, codec: EncryptionCodec | None = None) -> None:
        """Keep blobs in `folder`, which is made when it is first needed; with a codec, encrypted."""
        self._folder = folder
        self._codec = codec

    def put(self, data: bytes) -> BlobRef:
        """Store bytes; the same bytes are stored once, and their file is young again when they are put again.

        Raises:
            EncryptionError: The key that encrypts isn't here. Retryable.
        """
        digest = sha256(data).hexdigest()
        name = digest if self._codec is None else self._codec.keys.blind(self._codec.keys.primary, digest)
        path = self._path(name)
        try:
            os.utime(path)  # spared by whoever deletes by age
        except FileNotFoundError:
            _write(path, data if self._codec is None else _seal(self._codec, data))
        return BlobRef(digest=_PREFIX + digest, size_bytes=len(data))

    def read(self, blob: BlobRef) -> bytes:
        """Return the bytes behind a reference.

        Raises:
            ToolError: They are not on this machine, or not what the digest says. Not retryable.
            EncryptionError: They may be encrypted with a key that isn't here. Retryable.
        """
        digest = blob.digest.removeprefix(_PREFIX)
        if len(digest) != 64 or not digest.isalnum():
            raise ToolError(f"{blob.digest!r} is no digest of a blob.", is_retryable=False)
        try:
            data = self._find(digest)
        except OSError as error:
            raise ToolError(
                f"Blob {blob.digest} can't be read ({error.strerror}); workers must share their blob folder.",
                is_retryable=False,
            ) from None
        if data is None or sha256(data).hexdigest() != digest:
            raise ToolError(f"Blob {blob.digest} is damaged on disk.", is_retryable=False)
        return data

    def _find(self, digest: str) -> bytes | None:
        """Return what is there; None where it is damaged. A missing key is told if nothing is there without it."""
        lacking: EncryptionError | None = None
        if self._codec is not None:
            for key_id in self._codec.keys.ids:
                try:
                    name = self._codec.keys.blind(key_id, digest)
                except EncryptionError as error:
                    lacking = error
                    continue
                with suppress(FileNotFoundError):
                    return _unseal(self._codec, self._path(name).read_bytes())
        try:
            return self._path(digest).read_bytes()  # from before there was encryption
        except FileNotFoundError:
            if lacking is None:
                raise
            raise lacking from None

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    os.replace(file.name, path)


def _seal(codec: EncryptionCodec, data: bytes) -> bytes:
    return codec.encrypt(Payload(metadata=_METADATA, data=data)).SerializeToString()


def _unseal(codec: EncryptionCodec, data: bytes) -> bytes | None:
    try:
        return codec.decrypt(Payload.FromString(data)).data
    except (DecodeError, EncryptionError):  # the key is here, since the file's name was made with it
        return None
