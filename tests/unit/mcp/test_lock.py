"""The file of what was accepted."""

from pathlib import Path

import pytest

from perdure.contracts.spec import McpSource, ToolSpec
from perdure.errors import SettingsError
from perdure.mcp.lock import LOCK_FILE, is_accepted, read_lock, write_lock


def spec(digest: str, kind: str = "tool") -> ToolSpec:
    source = McpSource.model_validate({"server": "files", "tool": "read", "digest": digest, "kind": kind})
    return ToolSpec(name="files__read", parameters={}, mcp=source)


def test_what_was_accepted_is_read_back(tmp_path: Path) -> None:
    assert read_lock(tmp_path) == {}
    write_lock(tmp_path, "other", {"a": "1"})
    write_lock(tmp_path, "files", {"read": "abc"})
    found = read_lock(tmp_path)
    assert found == {"other": {"a": "1"}, "files": {"read": "abc"}}
    assert is_accepted(spec("abc"), found)
    assert not is_accepted(spec("abd"), found)
    assert not is_accepted(spec("abc"), {})
    assert is_accepted(spec("", "list_resources"), {}), "perdure's own text"


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 3}', '{"files": {"read": 3}}'])
def test_a_broken_file(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_FILE).write_text(text)
    with pytest.raises(SettingsError, match="is no list of accepted tools"):
        read_lock(tmp_path)
