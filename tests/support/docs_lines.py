"""What the lines of the documentation need in a test: which can't run here, and what is done between them."""

import re
from collections.abc import Mapping
from typing import TypeVar

from tests.support.docs_pages import REPOSITORY

_T = TypeVar("_T")

FROM_SCRATCH = ["README.md", "docs/tutorial.md", "docs/encryption.md", "perdure/_template/README.md"]
EXAMPLES = sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("examples/*/README.md"))
HOW_TO = [
    f"docs/{name}.md"
    for name in ("guide", "forks", "messages", "steering", "testing", "mcp", "observability", "production")
]
"""Pages whose lines are typed: in an empty folder, in the example, in a project that has what they name."""

TYPED = {*FROM_SCRATCH, *EXAMPLES, *HOW_TO}

NOT_RUN = {
    r"pip install ": "it would fetch what the tests are run with already; test_new_project installs the wheel",
    r"make ": "CI runs these targets itself; that of a new project is run by test_new_project",
    r"perdure demo": "test_cli_servers runs it",
    r"docker[/ ]": "no engine here; tests/containers and test_postgresql look at the files",
    r"kubectl ": "no cluster here; `make containers` validates the files",
    r"perdure worker --metrics-address": "test_prometheus runs it, on a port of its own",
    r"export OTEL_": "no collector here; test_tracing has one",
    r"export \w+_MODEL=(openai|anthropic):": "a vendor's key",
    r"perdure plan run --planner planner --synthesiser writer -i \"What happens in a crash": "a vendor's key",
    r"perdure start researcher -i \"What is durable\?\"": "goes to the containers",
    r"\. \.venv/bin/activate": "the tests' own environment is used",
}
"""Beginnings of commands, and why no test types them."""

SERVES = {
    "perdure dev": "serves the Task Queue",
    "perdure worker": "serves the Task Queue",
    "perdure chat": "waits for approval",
    "perdure codec serve": "Codec server on",
    "temporal server start-dev": "Temporal Server:",
    "python -m shop.worker": "",
}
"""Commands that go on until they are ended, and what they say once they are up."""

ADDED = {
    "temporal server start-dev": " --headless --port $PERDURE_DEV_PORT",
    "perdure codec serve": " --port 0",
}
"""What is typed behind a line, so that it gets along with other tests on the machine."""

CTRL_C = "Ctrl-C"
"""Ends what serves."""

_WAITING = ("perdure start researcher -i deploy",)
_ENDED = "perdure run researcher -i tides"

PROSE: dict[str, dict[str, tuple[str, ...]]] = {
    "docs/tutorial.md": {
        'perdure start pilot -i "Open': (
            "sed -i '1i from gate import open_gate' app.py",
            "sed -i 's/tools=.tide_table./tools=[tide_table, open_gate]/' app.py",
            "until [ $(grep -c 'serves the Task Queue' ~/dev.txt) -gt 1 ]; do sleep 0.1; done",
        ),
    },
    "perdure/_template/README.md": {
        "perdure run": ("perdure init harbour && cd harbour", "perdure dev"),
    },
    "examples/existing_worker/README.md": {
        "temporal server": ("export TEMPORAL_ADDRESS=127.0.0.1:$PERDURE_DEV_PORT",)
    },
    "examples/research/README.md": {
        "export RESEARCH_ROOT": ("mkdir ~/notes && echo 'Logs are kept for ninety days.' > ~/notes/logs.md",),
        "RESEARCH_ROOT=": (CTRL_C,),
    },
    "docs/guide.md": {
        "perdure map": (r"printf 'High water.\n\nLow water.\n' > texts.txt",),
        "perdure plan amend": (
            "echo 'tasks: [{id: hold, agent: researcher, input: nap}, {id: report, agent: researcher, input: fail,"
            " on_error: continue}, {id: later, agent: writer, needs: [hold], input: x}]' > work.yaml",
            "echo 'drop: [later]' > changes.yaml",
            "perdure plan start work.yaml",
        ),
        "perdure scoreboard": ("perdure cancel ID", """perdure run Answering -i '["How high is it?"]'"""),
        "perdure score ": (_ENDED,),
        "perdure memory": ("perdure run front_desk -i remember --context user=ada",),
        "perdure show ID": ("perdure plan run tides.yaml",),
        "perdure report": (_ENDED,),
        "perdure rerun ID": ("perdure run researcher -i fail || true",),
        "perdure rerun ID --limit": ("perdure run researcher -i walk --limit max_turns=2 || true",),
    },
    "docs/forks.md": {
        "perdure fork ID --turn 7": (
            "perdure run researcher -i walk",
            "echo 'Be strict.' > strict.txt; echo '[1]' > hits.json",
        ),
    },
    "docs/messages.md": {"perdure send": ("perdure start researcher -i nap",)},
    "docs/steering.md": {
        "perdure inbox": _WAITING,
        "perdure approve ID CALL --args": _WAITING,
        "perdure approve ID CALL --always": _WAITING,
        "perdure deny ID": _WAITING,
        "perdure answer ID ": ("perdure start researcher -i ask",),
        "perdure answer ID '{": ("perdure start Ordering",),
    },
    "docs/encryption.md": {
        "perdure codec serve": (
            r"printf '[tool.perdure.encryption]\nkey_env = \"PERDURE_KEY\"\nkey_id = \"1\"\n' > pyproject.toml",
            "export PERDURE_KEY=$(head -c 32 /dev/urandom | base64)",
        ),
    },
    "docs/testing.md": {
        "mkdir": ("perdure run researcher -i tides --id researcher-1",),
        "perdure replay check tests/": ("mkdir -p tests/histories && cp tests/cassettes/* tests/histories",),
    },
    "docs/production.md": {
        "perdure worker": (
            "export PERDURE_TASK_QUEUE=agents PERDURE_MODEL_TASK_QUEUE=agents-models"
            " PERDURE_TOOL_TASK_QUEUE=agents-tools TEMPORAL_ADDRESS=127.0.0.1:$PERDURE_DEV_PORT GIT_SHA=1a2b3c4",
        ),
    },
}
"""By page and the beginning of a line: what is done before the first such line, as the text around it has it."""


def why_not(command: str) -> str | None:
    """Return why a command is not run."""
    return next((why for beginning, why in NOT_RUN.items() if re.match(beginning, command)), None)


def find(table: Mapping[str, _T], line: str) -> str | None:
    """Return the longest key of a table that a line begins with."""
    return max((key for key in table if line.startswith(key)), key=len, default=None)
