"""Sessions with MCP servers: opened by workers, for the tools that agents were pinned to. Activity side.

The `mcp` package is imported where a session is opened, and nowhere else: it is an extra.
"""
