"""Bytes by digest, on the worker's disk. Activity side; Event History holds references only."""

import os
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

from perdure.contracts.messages import BlobRef
from perdure.errors import ToolError

_PREFIX = "sha256:"


class BlobStore:
    """A folder of blobs, each in a file named by its digest.

    Workers on several machines need a folder that they share.
    """

    def __init__(self, folder: Path) -> None:
        """Keep blobs in `folder`, which is made when it is first needed."""
        self._folder = folder

    def put(self, data: bytes) -> BlobRef:
        """Store bytes; the same bytes are stored once."""
        digest = sha256(data).hexdigest()
        path = self._path(digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(data)
            os.replace(file.name, path)
        return BlobRef(digest=_PREFIX + digest, size_bytes=len(data))

    def read(self, blob: BlobRef) -> bytes:
        """Return the bytes behind a reference.

        Raises:
            ToolError: They are not on this machine, or not what the digest says. Not retryable.
        """
        digest = blob.digest.removeprefix(_PREFIX)
        if len(digest) != 64 or not digest.isalnum():
            raise ToolError(f"{blob.digest!r} is no digest of a blob.", is_retryable=False)
        try:
            data = self._path(digest).read_bytes()
        except OSError as error:
            raise ToolError(
                f"Blob {blob.digest} can't be read ({error.strerror}); workers must share their blob folder.",
                is_retryable=False,
            ) from None
        if sha256(data).hexdigest() != digest:
            raise ToolError(f"Blob {blob.digest} is damaged on disk.", is_retryable=False)
        return data

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest
