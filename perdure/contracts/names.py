"""Names that perdure registers with Temporal. Both sides; renaming one is a breaking change."""

from typing import Final

AGENT_WORKFLOW: Final = "AgentWorkflow"
MAP_WORKFLOW: Final = "MapWorkflow"
MAP_NODE: Final = "MapNode"
PLAN_WORKFLOW: Final = "PlanWorkflow"
SCOREBOARD_WORKFLOW: Final = "Scoreboard"
MEMORY_WORKFLOW: Final = "Memory"

LOAD_AGENT: Final = "perdure.load_agent"
FIRST_ATTRIBUTES: Final = "perdure.first_attributes"
CALL_MODEL: Final = "perdure.call_model"
CALL_TOOL: Final = "perdure.call_tool"
COPY_CONVERSATION: Final = "perdure.copy_conversation"
COMPACT: Final = "perdure.compact"
LOAD_TOOL: Final = "perdure.load_tool"
RUN_TOOL: Final = "perdure.run_tool"
RUN_SHARED_TOOL: Final = "perdure.run_shared_tool"
ASK_SHARED_MODEL: Final = "perdure.ask_shared_model"
KEEP_SHARED_REPLY: Final = "perdure.keep_shared_reply"
VERIFY: Final = "perdure.verify"
READ_OUTPUT: Final = "perdure.read_output"
READ_PAGE: Final = "perdure.read_page"
CHECK_PLAN: Final = "perdure.check_plan"
DESCRIBE_AGENTS: Final = "perdure.describe_agents"
FIND_EARLIER: Final = "perdure.find_earlier"
RESUME_RUN: Final = "perdure.resume_run"
SELECT_AGENT: Final = "perdure.select_agent"
QUOTE_SELECTION: Final = "perdure.quote_selection"
RECORD_OUTCOMES: Final = "perdure.record_outcomes"
DESCRIBE_WORKER: Final = "perdure.describe_worker"
CHECK_APPROVAL: Final = "perdure.check_approval"
OPEN_WAIT: Final = "perdure.open_wait"

STATUS_QUERY: Final = "perdure.status"
MESSAGES_QUERY: Final = "perdure.messages"
SPEC_QUERY: Final = "perdure.spec"
MAP_QUERY: Final = "perdure.map"
PLAN_QUERY: Final = "perdure.plan"
ARTIFACT_QUERY: Final = "perdure.artifact"
WAITS_QUERY: Final = "perdure.waits"

AMEND_PLAN_UPDATE: Final = "perdure.amend_plan"
RETRY_TASK_UPDATE: Final = "perdure.retry_task"
DECIDE_UPDATE: Final = "perdure.decide"

PLAN_VERIFIER: Final = "perdure.plan"
"""Judges the answers of planners: whether the plan can be executed."""
PLAN_CONTEXT: Final = "perdure.plan"
"""Context value of a planner that is asked again: the plan so far, and the state of its tasks."""
SCOREBOARD_QUERY: Final = "perdure.scoreboard"

LIMIT_UPDATE: Final = "perdure.limit"
LEASE_SIGNAL: Final = "perdure.lease"
LEASE_ANSWER_SIGNAL: Final = "perdure.lease_answer"
MONEY_QUERY: Final = "perdure.money"
LIMITS_MEMO: Final = "perdure.limits"
"""What all that a workflow starts may spend together, where the workflow is no agent's run."""
LEASE_HEADER: Final = "perdure.lease"
LEDGER_HEADER: Final = "perdure.ledger"
PAUSE_HEADER: Final = "perdure.pause"
"""Whether a workflow that is no agent's run was paused when it continued as new."""

BILL_MEMO: Final = "perdure.bill"
"""Memo of a run that has ended, where its search attributes don't tell what it paid for: a `Bill`."""
BILL_HEADER: Final = "perdure.bill"
TENANT_HEADER: Final = "perdure.tenant"
"""Who a child workflow of the user's own is for: search attributes aren't inherited."""

SEND_UPDATE: Final = "perdure.send"
PAUSE_SIGNAL: Final = "perdure.pause"

OUTCOMES_SIGNAL: Final = "perdure.outcomes"

REMEMBER_SIGNAL: Final = "perdure.remember"
FORGET_UPDATE: Final = "perdure.forget"
MEMORY_QUERY: Final = "perdure.memory"

MAIN_CONVERSATION: Final = "main"

FORK_MEMO: Final = "perdure.fork"
"""Memo of a fork: a `ForkedFrom`."""

SHARED_QUEUE_SUFFIX: Final = "-shared"
"""Of the Task Queue on which calls shared by several runs are made, with slots of their own."""

SEARCH_ATTRIBUTES: Final[dict[str, str]] = {
    "PerdureAgent": "Keyword",
    "PerdureState": "Keyword",
    "PerdureModel": "Keyword",
    "PerdureTenant": "Keyword",
    "PerdureCostUsd": "Double",
    "PerdureTokens": "Int",
    "PerdureTurns": "Int",
}
"""Name and Temporal type of each search attribute that perdure writes, if the server has it."""
