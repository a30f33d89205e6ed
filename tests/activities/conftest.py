"""A worker's activities, without a server."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import Agent
from perdure.providers.base import Provider
from perdure.testing import ScriptedModel
from tests.activities.rig import Rig

MakeRig = Callable[..., Rig]


@pytest.fixture
async def make_rig(tmp_path: Path) -> AsyncIterator[MakeRig]:
    """Make a rig of one agent `worker`, whose model is scripted; options of the agent go to the agent."""
    made: list[Rig] = []

    def make(provider: Provider | None = None, /, **options: Any) -> Rig:
        fields = {name: options.pop(name) for name in list(options) if name in Rig.__dataclass_fields__}
        options.setdefault("model", "scripted:x")
        fields.setdefault("agents", [Agent("worker", **options)])
        rig = Rig(tmp_path / "blobs", providers=[provider or ScriptedModel(["done"])], **fields)
        made.append(rig)
        return rig

    yield make
    for rig in made:
        await rig.aclose()
        await rig.host.http.aclose()
