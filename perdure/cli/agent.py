"""`perdure agent`: the agents of the app. No server is asked."""

import click

from perdure.cli._command import Command, app_option, output_option


@click.group(name="agent")
def command() -> None:
    """List and show the agents of the app."""


@command.command(name="list", cls=Command)
@app_option
@output_option
def list_(app: str | None, output: str) -> None:
    """List the agents."""
    from perdure.cli._agents import describe, print_agents
    from perdure.cli._context import load_app
    from perdure.cli._render import print_items

    agents = list(load_app(app).agents.values())
    if output == "text":
        print_agents(agents)
    else:
        print_items([describe(agent) for agent in agents], output)


@command.command(name="show", cls=Command)
@click.argument("name")
@app_option
@output_option
def show(name: str, app: str | None, output: str) -> None:
    """Show an agent: instructions, models, tools, limits."""
    from perdure.cli._agents import describe, print_agent
    from perdure.cli._context import load_app
    from perdure.cli._render import print_json

    agent = load_app(app).registry.agent(name)
    if output == "text":
        print_agent(agent)
    else:
        print_json(describe(agent), output)
