"""Settings of production workers: addresses, kinds of work, what goes together."""

from pathlib import Path

import pytest
from temporalio.common import VersioningBehavior
from temporalio.worker import PollerBehaviorAutoscaling, PollerBehaviorSimpleMaximum

from perdure._production import Address, show
from perdure._slots import activity_options, version_options, workflow_options
from perdure.settings import Settings
from tests.unit.test_settings import failure, resolve


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("9464", "127.0.0.1:9464"),
        (":9464", "127.0.0.1:9464"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("localhost:0", "127.0.0.1:0"),
        ("[::1]:80", "[::1]:80"),
        ("[::]:80", "[::]:80"),
    ],
)
def test_addresses(tmp_path: Path, written: str, address: str) -> None:
    settings = resolve(tmp_path, env={"PERDURE_HEALTH_ADDRESS": written}).settings
    assert str(settings.health_address) == show(settings.health_address) == address
    assert resolve(tmp_path, f'metrics_address = "{written}"').settings.metrics_address == settings.health_address


def test_a_port_alone_is_on_the_loopback(tmp_path: Path) -> None:
    assert resolve(tmp_path, "health_address = 8080").settings.health_address == Address("127.0.0.1", 8080)


@pytest.mark.parametrize("written", ['"x"', '"x:80"', '"127.0.0.1"', '"1:99999"', "true", "-1", '"٣"'])
def test_no_addresses(tmp_path: Path, written: str) -> None:
    assert "health_address should be PORT or HOST:PORT" in failure(tmp_path, f"health_address = {written}")


def test_kinds_of_work(tmp_path: Path) -> None:
    queues = 'tool_task_queue = "t"\nmodel_task_queue = "m"\n'
    assert resolve(tmp_path).settings.serve == ("workflows", "models", "tools")
    assert resolve(tmp_path, queues + 'serve = ["tools", "models"]').settings.serve == ("models", "tools")
    settings = resolve(tmp_path, queues, env={"PERDURE_SERVE": "tools, models"}).settings
    assert show(settings.serve) == "models, tools"
    own = 'serve = "models"\nproviders.openai = {task_queue = "o"}'
    assert resolve(tmp_path, own).settings.serve == ("models",)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('serve = "models"', "serve: models without workflows needs model_task_queue"),
        ('serve = "tools"', "serve: tools without workflows needs tool_task_queue"),
        ('serve = ""', "serve should name at least one of workflows, models, tools"),
        ('serve = "model"', "serve.0 should be 'workflows', 'models' or 'tools'"),
        ('build_id = "1"', "build_id needs deployment_name."),
        ('deployment_name = "d"', "deployment_name needs build_id."),
        ('tool_task_queue = "perdure"', "tool_task_queue should be a Task Queue of its own: 'perdure' is"),
        ('tool_task_queue = "x"\nmodel_task_queue = "x"', "tool_task_queue should be a Task Queue of its own"),
        ("target_cpu = 1.5", "target_cpu should be less than or equal to 1"),
        ('tuner = "auto"', "tuner should be 'fixed' or 'resource'"),
        ("telemetry.contents = true", "there is no setting 'contents'. Did you mean 'content'?"),
        ('telemetry.content = "yes"', "telemetry.content should be a valid boolean"),
    ],
)
def test_mistakes(tmp_path: Path, body: str, said: str) -> None:
    assert said in failure(tmp_path, body)


def test_mistakes_of_several_settings_name_their_source(tmp_path: Path) -> None:
    told = failure(tmp_path, env={"PERDURE_BUILD_ID": "1"})
    assert told == "environment PERDURE_BUILD_ID: build_id needs deployment_name."


def test_slots_are_fixed_or_depend_on_resources() -> None:
    fixed = activity_options(Settings(), slots=7)
    assert (fixed["max_concurrent_activities"], fixed["max_concurrent_workflow_tasks"]) == (7, 40)
    assert isinstance(fixed["activity_task_poller_behavior"], PollerBehaviorSimpleMaximum)
    tuned = activity_options(Settings(tuner="resource", pollers="auto"), slots=7)
    assert "max_concurrent_activities" not in tuned
    assert tuned["tuner"]._get_activities_max() == 7
    assert isinstance(tuned["activity_task_poller_behavior"], PollerBehaviorAutoscaling)


def test_a_version_has_a_deployment_and_a_behaviour() -> None:
    assert version_options(Settings()) == {}
    assert "deployment_config" not in workflow_options(Settings())
    pinned = Settings(deployment_name="d", build_id="1", versioning="pinned")
    config = version_options(pinned)["deployment_config"]
    assert (config.version.deployment_name, config.version.build_id) == ("d", "1")
    assert config.default_versioning_behavior is VersioningBehavior.PINNED
    assert config.use_worker_versioning


def test_settings_made_by_hand_are_checked_too() -> None:
    with pytest.raises(ValueError, match="needs deployment_name"):
        Settings(build_id="1")
