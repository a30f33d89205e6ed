"""What the command line, and users' own services, call. Client side."""

from perdure._task_queues import has_pollers, pollers
from perdure.client._attempts import ModelTrouble
from perdure.client._children import ChildRun
from perdure.client._cost import CostBy, CostReport, CostRow
from perdure.client._diff import Parting, RunDiff, Side
from perdure.client._fork import ForkResult
from perdure.client._limits import only_shared
from perdure.client._rerun import RerunResult
from perdure.client._runs import RunInfo, RunStatusName
from perdure.client._schedule_info import ScheduleDetails, ScheduledRun, ScheduleInfo
from perdure.client._show import Money, PendingCall, RunDetails
from perdure.client._timeline.data import ChainLink, Step, Timeline
from perdure.client._timeline.sums import Sum, Totals, totals
from perdure.client._top import QueueLoad, Top, TopRun
from perdure.client._transcript import FullTranscript, TranscriptEntry
from perdure.client._tree import Tree, TreeNode
from perdure.client._waits import Inbox, RecordedDecision, RunWaits
from perdure.client._watch import WatchEvent
from perdure.client.memories import MemoryReader
from perdure.client.perdure_client import PerdureClient, StartedRun
from perdure.client.schedules import Schedules, Triggered

__all__ = [
    "ChainLink",
    "ChildRun",
    "CostBy",
    "CostReport",
    "CostRow",
    "ForkResult",
    "FullTranscript",
    "Inbox",
    "MemoryReader",
    "ModelTrouble",
    "Money",
    "Parting",
    "PendingCall",
    "PerdureClient",
    "QueueLoad",
    "RecordedDecision",
    "RerunResult",
    "RunDetails",
    "RunDiff",
    "RunInfo",
    "RunStatusName",
    "RunWaits",
    "ScheduleDetails",
    "ScheduleInfo",
    "ScheduledRun",
    "Schedules",
    "Side",
    "StartedRun",
    "Step",
    "Sum",
    "Timeline",
    "Top",
    "TopRun",
    "Totals",
    "TranscriptEntry",
    "Tree",
    "TreeNode",
    "Triggered",
    "WatchEvent",
    "has_pollers",
    "only_shared",
    "pollers",
    "totals",
]
