"""The commands: where each is, and what it does in a line. Nothing here imports them."""

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """A command, before it is imported."""

    module: str
    """It has the command as `command`."""
    help: str


COMMANDS: Final[dict[str, dict[str, Entry]]] = {
    "Begin": {
        "init": Entry(
            "perdure.cli.init", "Write a new project: an agent, a tool, tests, a Makefile, a compose file."
        ),
        "examples": Entry("perdure.cli.examples", "List the example projects, and copy one."),
        "completion": Entry(
            "perdure.cli.completion", "Print the script with which your shell completes commands and options."
        ),
    },
    "Run it here": {
        "dev": Entry("perdure.cli.dev", "Run a Temporal server, its web UI and a worker; restart on changes."),
        "worker": Entry("perdure.cli.worker", "Run a worker until it is told to stop."),
        "demo": Entry("perdure.cli.demo", "Kill a worker in mid-run and watch the run go on."),
    },
    "Start": {
        "run": Entry("perdure.cli.run", "Start an agent or a workflow, and follow it to its result."),
        "start": Entry("perdure.cli.start", "Start an agent or a workflow, and print the workflow id."),
        "chat": Entry("perdure.cli.chat", "Talk with an agent, in a session that outlives the terminal."),
        "map": Entry("perdure.cli.map", "Run an agent on each line of a file, or each element of a JSON array."),
        "schedule": Entry(
            "perdure.cli.schedule", "Start agents and workflows by the clock, on Temporal Schedules."
        ),
        "plan": Entry("perdure.cli.plan", "Check, run and change plans: tasks for agents, in YAML or JSON."),
    },
    "Look": {
        "list": Entry("perdure.cli.list", "List runs, the latest first."),
        "show": Entry("perdure.cli.show", "Show a run: its state, what it has used and what it waits for."),
        "trace": Entry(
            "perdure.cli.trace",
            "Show what a run did and when: turns, model calls, tools, child runs, waits and retries.",
        ),
        "report": Entry(
            "perdure.cli.report", "Write a run as one HTML page: timeline, cost, plan and transcript."
        ),
        "top": Entry("perdure.cli.top", "Show what goes on: open runs, rates, spend, Task Queues and workers."),
        "watch": Entry("perdure.cli.watch", "Follow a run live."),
        "result": Entry("perdure.cli.result", "Wait for a run and print its output."),
        "transcript": Entry("perdure.cli.transcript", "Print the conversation of a run."),
        "query": Entry("perdure.cli.query", "Ask a run something."),
        "diff": Entry("perdure.cli.diff", "Show where two runs of agents part, and what each came to."),
        "cost": Entry("perdure.cli.cost", "Add up what agents have cost, by agent, model, tenant, day or run."),
        "scoreboard": Entry("perdure.cli.scoreboard", "Show what became of work, by kind and agent."),
    },
    "Steer": {
        "inbox": Entry("perdure.cli.inbox", "List all that runs wait for people for."),
        "approvals": Entry("perdure.cli.approvals", "Show what the run ID, and the runs below it, wait for."),
        "approve": Entry("perdure.cli.approve", "Approve a tool call that waits."),
        "deny": Entry("perdure.cli.deny", "Deny a tool call that waits."),
        "answer": Entry("perdure.cli.answer", "Answer a question that waits."),
        "send": Entry("perdure.cli.send", "Send a message to an open run of an agent."),
        "pause": Entry("perdure.cli.pause", "Pause a run and all that is below it."),
        "resume": Entry("perdure.cli.resume", "Let a paused run go on."),
        "signal": Entry("perdure.cli.signal", "Send a signal to a run."),
        "update": Entry("perdure.cli.update", "Send an update to a run, and print its answer."),
        "limit": Entry("perdure.cli.limit", "Set limits of an open run, such as max_cost_usd=5."),
        "task": Entry("perdure.cli.task", "Steer the tasks of a plan at work."),
        "fork": Entry("perdure.cli.fork", "Start a new run whose conversation is the first N turns of another."),
        "rerun": Entry("perdure.cli.rerun", "Start a failed run again from its last good turn or task."),
        "memory": Entry("perdure.cli.memory", "Show what agents remember of users, and have it forgotten."),
        "score": Entry("perdure.cli.score", "Say how good a run was, from 0 to 1."),
        "cancel": Entry("perdure.cli.cancel", "Ask a run to end; it cleans up."),
        "terminate": Entry("perdure.cli.terminate", "End a run at once."),
    },
    "Check": {
        "agent": Entry("perdure.cli.agent", "List and show the agents of the app."),
        "provider": Entry("perdure.cli.provider", "Show providers, and limit the Task Queues of their calls."),
        "mcp": Entry("perdure.cli.mcp", "Show MCP servers and their tools, and accept them."),
        "storage": Entry(
            "perdure.cli.storage", "Show what is in external storage, and delete what no run refers to."
        ),
        "codec": Entry("perdure.cli.codec", "Decode encrypted payloads for Temporal's web UI."),
        "replay": Entry("perdure.cli.replay", "Check that recorded runs replay with today's code; record runs."),
        "doctor": Entry("perdure.cli.doctor", "Check settings, app, workflows and server."),
    },
}

BY_NAME: Final = {name: entry for section in COMMANDS.values() for name, entry in section.items()}
