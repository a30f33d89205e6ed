"""What the workflow's own code takes of a turn: CPU of replaying a run, which nothing else disturbs."""

import time
from collections.abc import Mapping

from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from perdure.workflows.agent import AgentWorkflow
from perdure.workflows.interceptor import PerdureInterceptor

_REPLAYS = 15


async def replay_cpu_ms(histories: Mapping[str, WorkflowHistory]) -> dict[str, float]:
    """Return the least CPU, in ms, that replaying each history took; they take turns."""
    least = dict.fromkeys(histories, float("inf"))
    for _ in range(_REPLAYS):
        for name, history in histories.items():
            replayer = Replayer(
                workflows=[AgentWorkflow],
                workflow_runner=UnsandboxedWorkflowRunner(),
                data_converter=pydantic_data_converter,
                interceptors=[PerdureInterceptor()],
            )
            began = time.process_time()
            await replayer.replay_workflow(history)
            least[name] = min(least[name], 1000 * (time.process_time() - began))
    return least
