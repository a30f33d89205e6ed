"""An app for the provider faults: its model is a real HTTP server away."""

from datetime import timedelta

from perdure import Agent, App, ModelSettings

SETTINGS = ModelSettings(stall_timeout=timedelta(seconds=1), timeout=timedelta(seconds=10), max_attempts=2)

app = App(
    agents=[
        Agent("faults", model="openai:fake", settings=SETTINGS),
        Agent("whole", model="openai:fake", settings=SETTINGS.model_copy(update={"stream": False})),
        Agent("refused", model="nowhere:fake", settings=SETTINGS),
    ]
)
