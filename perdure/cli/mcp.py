"""`perdure mcp`: the MCP servers of the project, and what people have accepted of them."""

import click

from perdure.cli._command import Command, app_option, output_option


@click.group(name="mcp")
def command() -> None:
    """Show MCP servers and their tools, opened here, and accept them."""


@command.command(name="list", cls=Command)
@app_option
@output_option
def list_(app: str | None, output: str) -> None:
    """List the servers: whether each can be opened here, and how many of its tools are accepted.

    Exits with 3 if one can't be opened.
    """
    from perdure.cli._context import load_project, run_async
    from perdure.cli._mcp import print_servers, read_servers

    print_servers(run_async(read_servers(load_project(app=app))), output)


@command.command(name="tools", cls=Command)
@click.argument("name", metavar="NAME")
@app_option
@output_option
def tools(name: str, app: str | None, output: str) -> None:
    """Show the tools that agents get of the server NAME, and which of them are accepted as they are.

    Exits with 3 if it can't be opened.
    """
    from perdure.cli._context import load_project, run_async
    from perdure.cli._mcp import print_tools, read_tools

    print_tools(run_async(read_tools(load_project(app=app), name)), output)


@command.command(name="accept", cls=Command)
@click.argument("name", metavar="NAME")
@click.option("--tool", "patterns", multiple=True, metavar="TOOL", help="Accept this one only; may be repeated.")
@app_option
def accept(name: str, patterns: tuple[str, ...], app: str | None) -> None:
    """Accept the tools of the server NAME as it describes them now: write their digests into mcp.lock.

    Read what `perdure mcp tools NAME -o json` shows before. Workers read the file when they start. Calls of tools
    that aren't accepted need a person's approval.
    """
    from perdure.cli._context import load_project, run_async
    from perdure.cli._mcp import accept_tools

    run_async(accept_tools(load_project(app=app), name, patterns))
