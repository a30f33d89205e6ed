"""What users call from workflows of their own: plain async functions. Workflow side.

They go with anything in `temporalio.workflow`; there is no class to inherit from.
"""

from perdure.workflows._questions import ask_human
from perdure.workflows.children import run_agent
from perdure.workflows.gathering import gather
from perdure.workflows.mapping import map_agent
from perdure.workflows.plans import plan_and_run, run_plan, write_plan
from perdure.workflows.selecting import record_outcome, select_agent
from perdure.workflows.steps import call_tool

__all__ = [
    "ask_human",
    "call_tool",
    "gather",
    "map_agent",
    "plan_and_run",
    "record_outcome",
    "run_agent",
    "run_plan",
    "select_agent",
    "write_plan",
]
