"""An app whose model may take its time: a vendor that says nothing for minutes counts as at work."""

from datetime import timedelta

from perdure import Agent, App, ModelSettings

patient = Agent(
    "patient",
    model="openai:fake",
    instructions="Wait.",
    settings=ModelSettings(stall_timeout=timedelta(minutes=5), timeout=timedelta(minutes=10)),
)
app = App(agents=[patient])
