"""The researcher, slowed down: what `perdure demo` runs, so that there is time to kill its worker."""

from dataclasses import replace

from perdure import App, ModelSettings
from research.app import MODEL, researcher

SLOW = ModelSettings(extra={"delay_seconds": 1.5}) if MODEL.startswith("offline:") else ModelSettings()

app = App(agents=[replace(researcher, settings=SLOW)])
