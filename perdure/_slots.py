"""What a Temporal worker is told of slots, polls and versions. Wiring only."""

from datetime import timedelta
from typing import Any

from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import (
    PollerBehavior,
    PollerBehaviorAutoscaling,
    PollerBehaviorSimpleMaximum,
    ResourceBasedSlotConfig,
    WorkerDeploymentConfig,
    WorkerTuner,
)

from perdure.settings import Settings

HEARTBEAT_THROTTLE = timedelta(seconds=1)
"""How late a worker learns that a call was cancelled; Temporal's default is 60 s."""

_STICKY_TIMEOUT = timedelta(seconds=1)
"""A dead worker's workflow task goes to another after this long; Temporal's default is 10 s."""
_BEHAVIORS = {"auto_upgrade": VersioningBehavior.AUTO_UPGRADE, "pinned": VersioningBehavior.PINNED}


def activity_options(settings: Settings, *, slots: int) -> dict[str, Any]:
    """Return the options of a worker that runs at most `slots` activities at once."""
    return {
        **_slots(settings, slots),
        "activity_task_poller_behavior": _pollers(settings),
        "max_heartbeat_throttle_interval": HEARTBEAT_THROTTLE,
        "default_heartbeat_throttle_interval": HEARTBEAT_THROTTLE,
        "graceful_shutdown_timeout": settings.grace_period,
    }


def workflow_options(settings: Settings) -> dict[str, Any]:
    """Return the options of a worker's workflow side, and its version."""
    return {
        "max_cached_workflows": settings.max_cached_workflows,
        "workflow_task_poller_behavior": _pollers(settings),
        "sticky_queue_schedule_to_start_timeout": _STICKY_TIMEOUT,
        **version_options(settings),
    }


def version_options(settings: Settings) -> dict[str, Any]:
    """Return the version of the worker; nothing where it has none."""
    if settings.deployment_name is None or settings.build_id is None:
        return {}
    version = WorkerDeploymentVersion(deployment_name=settings.deployment_name, build_id=settings.build_id)
    return {
        "deployment_config": WorkerDeploymentConfig(
            version=version,
            use_worker_versioning=True,
            default_versioning_behavior=_BEHAVIORS[settings.versioning],
        )
    }


def _slots(settings: Settings, activities: int) -> dict[str, Any]:
    workflow_tasks = settings.max_concurrent_workflow_tasks
    if settings.tuner == "fixed":
        return {"max_concurrent_activities": activities, "max_concurrent_workflow_tasks": workflow_tasks}
    tuner = WorkerTuner.create_resource_based(
        target_memory_usage=settings.target_memory,
        target_cpu_usage=settings.target_cpu,
        workflow_config=ResourceBasedSlotConfig(maximum_slots=workflow_tasks),
        activity_config=ResourceBasedSlotConfig(maximum_slots=activities),
        local_activity_config=ResourceBasedSlotConfig(maximum_slots=activities),
    )
    return {"tuner": tuner}


def _pollers(settings: Settings) -> PollerBehavior:
    return PollerBehaviorAutoscaling() if settings.pollers == "auto" else PollerBehaviorSimpleMaximum()
