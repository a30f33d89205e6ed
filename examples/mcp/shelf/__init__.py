"""An agent whose tools come from MCP servers."""
