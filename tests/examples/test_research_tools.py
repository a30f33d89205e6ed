"""The research example: tools that stay in their folder, and an offline model that uses them."""

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from research.app import Answer, app, fact_finder, researcher  # pyright: ignore[reportMissingImports]
from research.tools import list_files, read_file, search_text  # pyright: ignore[reportMissingImports]

from perdure import Agent, ToolContext, ToolRetry
from perdure.contracts.messages import BlobRef, Message, ToolCallPart, tool_message, user_message
from perdure.providers.base import ModelRequest
from perdure.providers.offline import OfflineProvider

RETRIES = "# Retries\n\nA model call is tried six times. The first wait is two seconds,\nand each wait doubles.\n"
LIMITS = "# Limits\n\n| limit | default |\n| --- | --- |\n| max_turns | 50 model calls |\n"
STORY = "# History\n\nThe project began in a lighthouse. Its keeper was called Odile.\n"


def no_blob(*_: Any) -> Any:
    raise AssertionError("the example stores no blobs")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small tree of documents, with everything beside them that must not be read."""
    (tmp_path / "secret.txt").write_text("the secret is out")
    root = tmp_path / "root"
    files = {"README.md": "# Demo\n\nSee docs.\n", "docs/retries.md": RETRIES, "docs/limits.md": LIMITS}
    files |= {"docs/deep/story.md": STORY, ".git/config": "lighthouse", "node_modules/a.md": "lighthouse"}
    files |= {"myenv/pyvenv.cfg": "lighthouse", "huge.txt": "lighthouse " * 100_000}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "image.png").write_bytes(b"\x89PNG\0lighthouse")
    (root / "latin.txt").write_bytes(b"caf\xe9 lighthouse")
    (root / "way-out").symlink_to(tmp_path, target_is_directory=True)
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "inside.md").symlink_to(root / "docs" / "limits.md")
    return root


def context(root: Path | None) -> ToolContext:
    return ToolContext(
        idempotency_key="key",
        workflow_id="run",
        tool="tool",
        context={} if root is None else {"root": str(root)},
        http=httpx.AsyncClient(),
        heartbeat=lambda: None,
        put_blob=no_blob,
    )


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../secret.txt", "docs/../../secret.txt", "way-out/secret.txt", "link.txt", "a\0b", "~/x"],
)
def test_nothing_outside_of_the_root_is_read(root: Path, path: str) -> None:
    with pytest.raises(ToolRetry):
        read_file(context(root), path)
    with pytest.raises(ToolRetry):
        list_files(context(root), folder=path)
    with pytest.raises(ToolRetry):
        search_text(context(root), "secret", folder=path)


def test_listing_and_searching_do_not_follow_links_out(root: Path) -> None:
    assert "secret" not in list_files(context(root))
    assert "secret" not in search_text(context(root), "out is").replace("way-out", "")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("image.png", "binary"),
        ("latin.txt", "UTF-8"),
        ("huge.txt", "too large"),
        ("docs", "no file"),
        ("docs/gone.md", "list the files"),
    ],
)
def test_what_is_not_read_is_refused_with_the_reason(root: Path, path: str, reason: str) -> None:
    with pytest.raises(ToolRetry, match=reason):
        read_file(context(root), path)


def test_a_link_within_the_root_is_fine(root: Path) -> None:
    assert "max_turns" in read_file(context(root), "inside.md")


def test_files_are_listed_without_hidden_and_generated_ones(root: Path) -> None:
    lines = list_files(context(root)).splitlines()
    assert f"docs/retries.md ({len(RETRIES)} bytes)" in lines
    assert not [line for line in lines if line.startswith((".git", "node_modules", "myenv", "way-out"))]
    assert (
        list_files(context(root), pattern="*.md", folder="docs/deep") == f"docs/deep/story.md ({len(STORY)} bytes)"
    )
    assert list_files(context(root), pattern="*.rs").startswith("No files match")


def test_a_long_list_is_cut_with_a_hint(tmp_path: Path) -> None:
    for i in range(305):
        (tmp_path / f"{i}.txt").touch()
    assert list_files(context(tmp_path)).splitlines()[-1] == "[5 more files: name a folder or a pattern]"


def test_lines_with_more_of_the_words_come_first(root: Path) -> None:
    found = search_text(context(root), "WAIT doubles").splitlines()
    assert found == [
        "docs/retries.md:4: and each wait doubles.",
        "docs/retries.md:3: A model call is tried six times. The first wait is two seconds,",
    ]


def test_names_that_are_no_utf_8_and_form_feeds_do_no_harm(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/odd-\xff.txt")).write_text("one\fpage\r\nneedle")
    assert list_files(context(root)).encode().count(b"odd-") == 1
    assert search_text(context(root), "needle") == "odd-?.txt:2: needle"


def test_a_search_is_bounded_and_says_so(root: Path) -> None:
    (root / "many.txt").write_text("needle\n" * 100)
    found = search_text(context(root), "needle", max_results=3).splitlines()
    assert found == [*(f"many.txt:{i}: needle" for i in (1, 2, 3)), "[97 more lines: ask for rarer words]"]
    assert len(search_text(context(root), "needle", max_results=10**6).splitlines()) == 41


def test_a_search_for_nothing_or_in_vain_says_so(root: Path) -> None:
    assert search_text(context(root), "zebra").startswith("No line holds any of: zebra")
    with pytest.raises(ToolRetry, match="empty"):
        search_text(context(root), "  ")


def test_a_file_is_read_in_parts(root: Path) -> None:
    text = read_file(context(root), "docs/retries.md", start_line=3, max_lines=1)
    assert text.splitlines()[0].startswith("3: A model call")
    assert text.splitlines()[1] == "[1 more lines: read on with start_line=4]"
    assert "none from line 99" in read_file(context(root), "docs/retries.md", start_line=99)


def test_the_root_is_the_run_s_then_the_environment_s_then_the_current_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root / "docs" / "deep")
    monkeypatch.delenv("RESEARCH_ROOT", raising=False)
    assert list_files(context(None)).startswith("story.md")
    monkeypatch.setenv("RESEARCH_ROOT", str(root / "docs"))
    assert "deep/story.md" in list_files(context(None))
    assert "docs/deep/story.md" in list_files(context(root))
    with pytest.raises(ToolRetry, match="no folder"):
        list_files(context(root / "gone"))


def test_the_app_holds_its_agents_and_idempotent_tools() -> None:
    assert set(app.agents) == {"researcher", "fact_finder", "writer"}
    assert all(spec.idempotent for spec in researcher.tool_specs)
    assert researcher.models == (os.environ.get("RESEARCH_MODEL") or "offline:reader",)


def read_blob(ref: BlobRef) -> bytes:
    raise AssertionError(ref)


async def run(agent: Agent, question: str, root: Path) -> list[Message]:
    """Run the agent's loop in this process, with the offline model."""
    provider = OfflineProvider()
    messages = [user_message(question)]
    while len(messages) < 60:
        request = ModelRequest(
            model="reader",
            instructions=str(agent.instructions),
            fragments=[provider.encode(message, read_blob) for message in messages],
            tools=agent.tool_specs,
            output=agent.output_spec,
        )
        messages.append((await provider.call(request, [].append)).message)
        if not messages[-1].tool_calls:
            return messages
        messages += [await run_tool(agent, call, root) for call in messages[-1].tool_calls]
    raise AssertionError("no answer")


async def run_tool(agent: Agent, call: ToolCallPart, root: Path) -> Message:
    tool = next(each for each in agent.own_tools if each.name == call.name)
    try:
        return tool_message(call, await tool.run(tool.bind(json.loads(call.arguments)), context(root)))
    except ToolRetry as error:
        return tool_message(call, str(error), outcome="error")


@pytest.mark.parametrize(
    ("question", "fact", "source"),
    [
        ("How many times is a model call tried?", "A model call is tried six times.", "docs/retries.md:3"),
        ("How long is the first wait?", "two seconds, and each wait doubles.", "docs/retries.md:3"),
        ("What is the default of max_turns?", "max_turns — 50 model calls", "docs/limits.md:5"),
        ("Who kept the lighthouse?", "The project began in a lighthouse.", "docs/deep/story.md:3"),
    ],
)
async def test_the_researcher_finds_planted_facts(root: Path, question: str, fact: str, source: str) -> None:
    messages = await run(researcher, question, root)
    assert f"{fact} [source: {source}]" in messages[-1].text
    calls = [(call.name, call.arguments) for message in messages for call in message.tool_calls]
    assert len(calls) == len(set(calls))
    assert {"list_files", "search_text", "read_file"} == {name for name, _ in calls}


async def test_the_fact_finder_answers_in_its_type(root: Path) -> None:
    answer = Answer.model_validate_json((await run(fact_finder, "What was the keeper called?", root))[-1].text)
    assert "Its keeper was called Odile." in answer.summary
    assert answer.sources == ["docs/deep/story.md"]
