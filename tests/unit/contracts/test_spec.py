"""The pinned spec and its digest, by which a run finds it again on any worker."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.contrib.pydantic import pydantic_data_converter

from perdure.contracts.spec import AgentSpec
from tests.unit.contracts.strategies import contracts
from tests.unit.contracts.test_contracts import GOLDEN

SAMPLE = json.loads((GOLDEN.parent / "spec_0_1.json").read_text())
CONVERTER = pydantic_data_converter.payload_converter
specs = contracts(AgentSpec)

OTHER_PROCESS = """
import json, sys
from perdure.contracts.spec import AgentSpec
print(AgentSpec.model_validate(json.load(sys.stdin)).digest)
"""


def test_the_digest_never_changes_from_release_to_release() -> None:
    assert AgentSpec.model_validate(SAMPLE).digest == "9650a267def0f2ac"


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_digest_is_the_same_in_every_process(seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS],
        input=json.dumps(SAMPLE),
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": seed},
    )
    assert done.stdout.strip() == AgentSpec.model_validate(SAMPLE).digest


@given(specs)
def test_the_digest_survives_event_history(spec: AgentSpec) -> None:
    read: AgentSpec = CONVERTER.from_payloads(CONVERTER.to_payloads([spec]), [AgentSpec])[0]
    assert read.digest == spec.digest


@given(specs, st.sampled_from([{"instructions": "other"}, {"tags": ("new", "tags", "here", "4")}]))
def test_a_changed_copy_has_a_digest_of_its_own(spec: AgentSpec, update: dict[str, Any]) -> None:
    before = spec.digest
    changed = spec.model_copy(update=update)
    assert changed.digest == AgentSpec.model_validate_json(changed.to_bytes()).digest
    assert (changed.digest == before) == (changed == spec)


def test_a_tool_is_found_by_name() -> None:
    spec = AgentSpec.model_validate(SAMPLE)
    assert spec.tool("search") is spec.tools[0]
    assert spec.tool("Search") is None
