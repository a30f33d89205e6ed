"""Bytes by digest, and encrypted where the project is."""

import base64
import os
from pathlib import Path

import pytest

from perdure.activities._blobs import BlobStore
from perdure.contracts.messages import BlobRef
from perdure.encryption import EncryptionCodec, KeyRing
from perdure.errors import EncryptionError, ToolError
from perdure.settings import EncryptionTable

DATA = b"\x00\xffpicture"


def sealed(folder: Path, primary: str, *old: str, here: str = "one two") -> BlobStore:
    """Return a store that encrypts by a key; `here` are those that this worker has."""
    keys = {each.upper(): base64.b64encode(each[:1].encode() * 32).decode() for each in here.split()}
    table = EncryptionTable(key_env=primary.upper(), key_id=primary, old_keys={each: each.upper() for each in old})
    return BlobStore(folder, EncryptionCodec(KeyRing(table, lambda name: keys.get(name, ""))))


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


def test_what_is_put_again_is_young_again(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(DATA)
    (file,) = files(tmp_path)
    os.utime(file, (1, 1))
    store.put(DATA)
    assert file.stat().st_mtime > 1


def test_an_encrypted_blob_tells_the_folder_neither_bytes_nor_digest(tmp_path: Path) -> None:
    store = sealed(tmp_path / "sealed", "one")
    ref = store.put(DATA)
    assert ref == store.put(DATA) == BlobStore(tmp_path / "plain").put(DATA), "a reference is the same"
    (file,) = files(tmp_path / "sealed")
    assert DATA not in file.read_bytes()
    assert file.name not in ref.digest
    assert sealed(tmp_path / "sealed", "one").read(ref) == DATA
    with pytest.raises(ToolError, match="can't be read"):
        BlobStore(tmp_path / "sealed").read(ref)


def test_blobs_outlive_a_change_of_keys_and_need_no_old_one_once_put_anew(tmp_path: Path) -> None:
    ref = sealed(tmp_path, "one").put(DATA)
    later = sealed(tmp_path, "two", "one")
    assert later.read(ref) == DATA
    later.put(DATA)
    assert len(files(tmp_path)) == 2
    assert sealed(tmp_path, "two").read(ref) == DATA


def test_blobs_from_before_there_was_encryption_are_read(tmp_path: Path) -> None:
    ref = BlobStore(tmp_path).put(DATA)
    assert sealed(tmp_path, "one").read(ref) == DATA
    assert sealed(tmp_path, "one", "two", here="one").read(ref) == DATA


def test_a_key_that_is_not_here_is_waited_for(tmp_path: Path) -> None:
    ref = sealed(tmp_path, "one").put(DATA)
    with pytest.raises(EncryptionError, match="the key 'one', and ONE isn't set here") as caught:
        sealed(tmp_path, "two", "one", here="two").read(ref)
    assert not caught.value.non_retryable
    with pytest.raises(EncryptionError):
        sealed(tmp_path, "one", here="").put(DATA)
    with pytest.raises(ToolError, match="share their blob folder"):
        sealed(tmp_path, "two").read(ref)


@pytest.mark.parametrize("junk", [b"", b"other", b"\xff" * 100])
def test_an_encrypted_blob_that_was_changed_is_damaged(tmp_path: Path, junk: bytes) -> None:
    store = sealed(tmp_path, "one")
    ref = store.put(DATA)
    files(tmp_path)[0].write_bytes(junk)
    with pytest.raises(ToolError, match="damaged"):
        store.read(ref)


def test_a_blob_in_the_place_of_another_is_damaged(tmp_path: Path) -> None:
    store = sealed(tmp_path, "one")
    ref = store.put(DATA)
    (file,) = files(tmp_path)
    store.put(b"another")
    (other,) = (each for each in files(tmp_path) if each != file)
    file.write_bytes(other.read_bytes())
    with pytest.raises(ToolError, match="damaged"):
        store.read(ref)
