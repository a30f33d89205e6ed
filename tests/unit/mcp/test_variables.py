"""What a server's process is given of the worker's environment, and what is never told."""

import pytest

from perdure.agents.mcp import MCPServer
from perdure.mcp._faults import ServerFault
from perdure.mcp._meter import Flooded, Meter
from perdure.mcp._variables import expand, process_environment, secrets_of

ENVIRON = {"PATH": "/bin", "HOME": "/home/me", "OPENAI_API_KEY": "sk-worker", "TOKEN": "hunter2-hunter2"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${TOKEN}", "hunter2-hunter2"),
        ("Bearer ${env:TOKEN}!", "Bearer hunter2-hunter2!"),
        ("${NOPE:-there}", "there"),
        ("${NOPE:-}", ""),
        ("$TOKEN {TOKEN}", "$TOKEN {TOKEN}"),
    ],
)
def test_variables_stand_for_their_values(text: str, value: str) -> None:
    assert expand(text, ENVIRON) == value


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(ServerFault, match="NOPE isn't set on the worker"):
        expand("${NOPE}", ENVIRON)


def test_a_process_gets_what_it_needs_and_what_it_is_given() -> None:
    server = MCPServer.stdio("a", "x", env={"KEY": "${TOKEN}"}, pass_env=["UNSET", "TOKEN"])
    expected = {"PATH": "/bin", "HOME": "/home/me", "TOKEN": "hunter2-hunter2", "KEY": "hunter2-hunter2"}
    assert process_environment(server, ENVIRON) == expected


def test_secrets_are_values_of_variables_and_headers() -> None:
    server = MCPServer.http(
        "a", "http://x", headers={"Authorization": "Bearer ${TOKEN}", "X-Key": "Basic verysecret"}
    )
    assert set(secrets_of(server, ENVIRON)) == {"hunter2-hunter2", "Basic verysecret", "verysecret"}


def test_too_much_within_a_second() -> None:
    now = 0.0
    meter = Meter(1000, clock=lambda: now)
    for _ in range(2000):
        meter.add(1)
    with pytest.raises(Flooded, match="2000 messages"):
        meter.add(1)
    now = 2.0
    meter.add(4000)
    with pytest.raises(Flooded, match="4000 bytes"):
        meter.add(1)
