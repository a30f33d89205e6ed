"""A worker's activities, without a server."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import Agent
from perdure.providers.base import Provider
from perdure.storage.opening import close_storage
from perdure.testing import ScriptedModel
from tests.activities.rig import Rig
from tests.fakes.object_stores import GCSServer, ObjectStore, S3Server

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


@pytest.fixture(params=["s3", "gcs"])
async def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectStore]:
    """Run a store of each kind, whose credentials are in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    async with S3Server() if request.param == "s3" else GCSServer() as server:
        yield server
        await close_storage()
