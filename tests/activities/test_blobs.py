"""Bytes by digest."""

from pathlib import Path

import pytest

from perdure.activities._blobs import BlobStore
from perdure.contracts.messages import BlobRef
from perdure.errors import ToolError

DATA = b"\x00\xffpicture"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("data", [DATA, b"", b"x" * 100_000])
def test_what_was_put_is_read_by_any_worker_of_the_folder(tmp_path: Path, data: bytes) -> None:
    ref = BlobStore(tmp_path / "blobs").put(data)
    assert ref.size_bytes == len(data)
    assert ref.digest.startswith("sha256:")
    assert BlobStore(tmp_path / "blobs").read(ref) == data


def test_the_same_bytes_are_stored_once(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    assert store.put(DATA) == store.put(DATA)
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("digest", ["", "sha256:../../etc/passwd", "sha256:" + "/" * 64, "sha256:" + "a" * 65])
def test_a_reference_that_is_none_reads_nothing(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ToolError, match="no digest of a blob"):
        BlobStore(tmp_path).read(BlobRef(digest=digest, size_bytes=1))


def test_a_blob_of_another_machine_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="share their blob folder") as caught:
        BlobStore(tmp_path).read(BlobRef(digest="sha256:" + "a" * 64, size_bytes=1))
    assert caught.value.non_retryable


def test_a_damaged_blob_is_noticed(tmp_path: Path) -> None:
    ref = BlobStore(tmp_path).put(DATA)
    files(tmp_path)[0].write_bytes(b"other")
    with pytest.raises(ToolError, match="damaged"):
        BlobStore(tmp_path).read(ref)
