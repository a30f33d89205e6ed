"""The search attributes that a run of an agent begins with. Both sides."""


def first_attributes(agent: str, model: str, tenant: str, *, state: str = "working") -> dict[str, str]:
    """Return them by name, without those that are empty; who writes them leaves out what the server hasn't."""
    values = {"PerdureAgent": agent, "PerdureModel": model, "PerdureState": state, "PerdureTenant": tenant}
    return {name: value for name, value in values.items() if value}
