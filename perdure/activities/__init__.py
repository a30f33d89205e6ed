"""The side-effect side: model calls, tool calls, loading agents. Activity side; never imported by workflows."""
