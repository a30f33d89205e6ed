"""Bad input of the commands that steer runs; none of it needs a server."""

import pytest

from tests.cli.conftest import Project


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "Give an agent to talk with, or --attach ID, and not both."),
        (["calc", "--attach", "x"], "and not both"),
        (["--attach", "x", "--limit", "max_turns=3"], "--limit is for a new session"),
        (["--attach", "x", "--tenant", "t"], "--tenant is for a new session"),
        (["--attach", "x", "--priority", "1"], "--priority is for a new session"),
        (["clac"], "There is no agent 'clac'. Did you mean 'calc'?"),
        (["calc", "--idle-timeout", "soon"], "--idle-timeout 'soon' should be a number of m, h, d or w"),
        (["calc", "--limit", "nonsense=3"], "There is no limit 'nonsense'"),
        (["calc", "-o", "json"], "'json' is not one of"),
    ],
)
def test_chat(project: Project, args: list[str], told: str) -> None:
    assert told in " ".join(project.fail("chat", *args, code=2).split())


@pytest.mark.parametrize("args", [("send",), ("send", "x"), ("pause",), ("resume",)])
def test_what_is_missing_is_told(project: Project, args: tuple[str, ...]) -> None:
    assert "Missing argument" in project.fail(*args, code=2)


def test_a_message_from_a_file_that_is_not_there(project: Project) -> None:
    assert "can't be read from 'nothing.txt'" in project.fail("send", "x", "@nothing.txt", code=2)
