"""Settings: precedence, sources, and mistakes told in one line."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from perdure.contracts.usage import Price
from perdure.errors import SettingsError
from perdure.settings import ProviderTable, Resolved, Settings
from perdure.wiring import models_known


def write(folder: Path, body: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pyproject.toml"
    file.write_text(body)
    return file


def resolve(folder: Path, body: str = "", env: dict[str, str] | None = None, **flags: Any) -> Resolved:
    write(folder, f"[tool.perdure]\n{body}")
    return Settings.resolve(flags=flags, environ=env or {}, start=folder)


def failure(folder: Path, body: str = "", env: dict[str, str] | None = None, **flags: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve(folder, body, env, **flags)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_defaults(tmp_path: Path) -> None:
    found = Settings.resolve(environ={}, start=tmp_path)
    assert found.settings.app is None
    assert found.settings.task_queue == "perdure"
    assert found.settings.state_dir == tmp_path / ".perdure"
    assert found.settings.project_dir == tmp_path
    assert found.settings.message_cache_bytes == 256 * 1024 * 1024
    assert found.settings.grace_period == timedelta(minutes=10)
    assert set(found.sources) == set(Settings.model_fields) - {"project_dir"}
    assert set(found.sources.values()) == {"default"}


def test_the_working_directory_is_where_the_search_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, '[tool.perdure]\napp = "a:b"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERDURE_TASK_QUEUE", "env")
    settings = Settings.resolve().settings
    assert (settings.app, settings.task_queue, settings.project_dir) == ("a:b", "env", tmp_path)


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    body = 'app = "file:app"\ntask_queue = "file"\nlog_level = "debug"'
    env = {"PERDURE_APP": "env:app", "PERDURE_TASK_QUEUE": "env", "PERDURE_JSON_LOGS": ""}
    found = resolve(tmp_path, body, env, app="flag:app", dev_port=1, task_queue=None)
    settings, sources = found.settings, found.sources
    assert (settings.app, sources["app"]) == ("flag:app", "flag --app")
    assert (settings.task_queue, sources["task_queue"]) == ("env", "environment PERDURE_TASK_QUEUE")
    assert settings.log_level == "DEBUG"
    assert sources["log_level"] == f"{tmp_path / 'pyproject.toml'} [tool.perdure]"
    assert (settings.dev_port, sources["dev_port"]) == (1, "flag --port")
    assert (settings.json_logs, sources["json_logs"]) == (False, "default")


def test_the_nearest_table_counts_and_its_folder_is_the_project(tmp_path: Path) -> None:
    write(tmp_path, '[tool.perdure]\napp = "far:app"')
    write(tmp_path / "near", '[tool.perdure]\napp = "near:app"\nstate_dir = "state"')
    inner = tmp_path / "near" / "inner"
    write(inner, '[project]\nname = "no table here"')
    settings = Settings.resolve(environ={}, start=inner).settings
    assert settings.app == "near:app"
    assert settings.project_dir == tmp_path / "near"
    assert settings.state_dir == tmp_path / "near" / "state"


def test_durations_are_seconds_outside_and_timedelta_inside(tmp_path: Path) -> None:
    env = {"PERDURE_HEARTBEAT_TIMEOUT_SECONDS": "1.5"}
    found = resolve(tmp_path, "grace_period_seconds = 30", env)
    assert found.settings.grace_period == timedelta(seconds=30)
    assert found.settings.heartbeat_timeout == timedelta(seconds=1.5)
    assert found.sources["heartbeat_timeout"] == "environment PERDURE_HEARTBEAT_TIMEOUT_SECONDS"
    flagged = resolve(tmp_path, grace_period=timedelta(seconds=1))
    assert flagged.settings.grace_period == timedelta(seconds=1)
    assert flagged.sources["grace_period"] == "flag --grace-period-seconds"


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("TRUE", True), ("0", False), ("no", False)])
def test_booleans_from_the_environment(tmp_path: Path, text: str, value: bool) -> None:
    assert resolve(tmp_path, env={"PERDURE_JSON_LOGS": text}).settings.json_logs is value


def test_unknown_variables_are_reported_not_refused(tmp_path: Path) -> None:
    assert resolve(tmp_path, env={"PERDURE_TASKQUEUE": "x"}).ignored == ("PERDURE_TASKQUEUE",)


def test_providers(tmp_path: Path) -> None:
    body = """
        [tool.perdure.providers.local]
        protocol = "openai"
        base_url = "http://127.0.0.1:1234/v1"
        api_key_env = "LOCAL_KEY"
        max_tokens_field = "max_tokens"
    """
    table = resolve(tmp_path, body).settings.providers["local"]
    assert table == ProviderTable(
        protocol="openai",
        base_url="http://127.0.0.1:1234/v1",
        api_key_env="LOCAL_KEY",
        max_tokens_field="max_tokens",
    )


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().task_queue = "x"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('task_queu = "x"', "there is no setting 'task_queu'. Did you mean 'task_queue'?"),
        ('project_dir = "x"', "there is no setting 'project_dir'."),
        ("dev_port = true", "dev_port should be a valid integer; it is True."),
        ('dev_port = "7"', "dev_port should be a valid integer; it is '7'."),
        ("dev_port = 99999", "dev_port should be less than or equal to 65535; it is 99999."),
        ('grace_period_seconds = "x"', "grace_period_seconds should be a number of seconds; it is 'x'."),
        ("grace_period_seconds = nan", "grace_period_seconds should be a number of seconds"),
        ("grace_period_seconds = 1e300", "grace_period_seconds should be a number of seconds"),
        ("grace_period_seconds = -1", "grace_period_seconds should not be negative; it is -1."),
        ("heartbeat_timeout_seconds = 0", "heartbeat_timeout_seconds should be at least 0.1; it is 0."),
        ('log_level = "loud"', "log_level should be 'DEBUG', 'INFO'"),
        ("log_level = 3", "log_level should be"),
        ("state_dir = 3", "state_dir should be a path; it is 3."),
        (
            'prices."openai:x" = {input_usd=-1, output_usd=1}',
            "prices.openai:x.input_usd should be greater than or",
        ),
        ('prices."openai:x" = {input_usd=1, output_usd=1e9}', "prices.openai:x.output_usd should be less than or"),
        (
            'prices."openai:x" = {input_usd=1, output_usd=nan}',
            "prices.openai:x.output_usd should be a finite number",
        ),
        ('prices."openai:x" = {input_usd="1", output_usd=1}', "should be a number of US dollars per million"),
        ('prices."openai:x" = {input_usd=1}', "prices.openai:x.output_usd is missing."),
        ('prices."openai:x" = {input_usd=1, output=1}', "'output'. Did you mean 'output_usd'?"),
        ("prices.gpt = {input_usd=1, output_usd=1}", "'gpt' is none"),
        ("providers = 3", "providers should be a table."),
        ("providers.x = 3", "providers.x should be a table"),
        ('providers.x.protocol = "openai"', "providers.x needs base_url"),
        ("providers.x.max_concurrent = 3", "providers.x needs task_queue: max_concurrent is a limit of that"),
        ('providers.x = {task_queue="perdure"}', "providers.x.task_queue should be a Task Queue of its own"),
        ('providers.x = {task_queue="q", max_requests_per_second=0}', "max_requests_per_second should be greater"),
        ('providers.x = {protocol="grpc", base_url="http://x"}', "providers.x.protocol should be 'openai' or"),
        ('providers.x = {protocol="openai", base_url="ftp://x"}', "should be an http:// or https:// address"),
        ('providers.x = {base_ulr="http://x"}', "'base_ulr'. Did you mean 'base_url'?"),
        ('storage.driver = "disk"', "storage.driver should be 'local', 's3' or 'gcs'"),
        ("storage = 3", "storage should be a table."),
        ('storage = {driver="s3"}', 'storage needs bucket, with driver = "s3"'),
        ('storage = {driver="gcs", bucket="b", path="p"}', "storage has a path"),
        ('storage = {driver="local", bucket="b"}', "storage has a bucket"),
        ('storage = {driver="local", threshold_bytes=10}', "storage.threshold_bytes should be greater"),
        ('storage = {driver="local", treshold_bytes=10}', "Did you mean 'threshold_bytes'?"),
        (
            'storage = {driver="s3", bucket="b", endpoint_url="ftp://x"}',
            "should be an http:// or https:// address",
        ),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, body: str, said: str) -> None:
    message = failure(tmp_path, body)
    assert message.startswith(f"{tmp_path / 'pyproject.toml'} [tool.perdure]")
    assert said in message


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        ('api_key = "hunter2"', "api_key_env"),
        ('providers.x = {api_key = "hunter2"}', "api_key_env"),
        ('providers.x = {protocol="openai", base_url="http://x", openai_token="hunter2"}', "api_key_env"),
        ('providers.x = {protocol="openai", base_url="http://u:hunter2@x"}', "api_key_env"),
        ('providers.x = {protocol="openai", base_url="http://x?api-key=hunter2"}', "api_key_env"),
        ('storage = {driver="s3", bucket="b", endpoint_url="http://u:hunter2@x"}', "the environment"),
        ('storage = {driver="s3", bucket="b", secret_key="hunter2"}', "looks like a secret"),
        ('providers.x = {protocol="openai", base_url="http://x", api_key_env="hunter2"}', "never the key"),
    ],
)
def test_secrets_are_refused_and_never_repeated(tmp_path: Path, body: str, remedy: str) -> None:
    message = failure(tmp_path, body)
    assert remedy in message
    assert "hunter2" not in message


def test_mistakes_in_the_environment(tmp_path: Path) -> None:
    env = {"PERDURE_DEV_PORT": "many"}
    assert failure(tmp_path, env=env).startswith("environment PERDURE_DEV_PORT: dev_port should be a valid")
    assert "json_logs" in failure(tmp_path, env={"PERDURE_JSON_LOGS": "maybe"})
    assert "seconds" in failure(tmp_path, env={"PERDURE_GRACE_PERIOD_SECONDS": "inf"})


def test_mistakes_in_flags(tmp_path: Path) -> None:
    assert failure(tmp_path, dev_port=-1).startswith("flag --port: dev_port should be greater")
    assert failure(tmp_path, task_que="x") == ("No setting is called 'task_que'. Did you mean 'task_queue'?")


@pytest.mark.parametrize("body", ["[", "[tool]\nperdure = 3", "tool = 3\n[tool.perdure]"])
def test_files_that_cannot_be_read(tmp_path: Path, body: str) -> None:
    file = write(tmp_path, body)
    with pytest.raises(SettingsError, match=str(file)) as caught:
        Settings.resolve(environ={}, start=tmp_path)
    assert "\n" not in caught.value.message


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="Can't read"):
        Settings.resolve(environ={}, start=tmp_path)


def test_prices(tmp_path: Path) -> None:
    body = '[tool.perdure.prices."openai:x"]\ninput_usd = 0.1\noutput_usd = 4'
    settings = resolve(tmp_path, body).settings
    price, _ = models_known(settings)("openai:x")
    assert price == Price(input_usd=Decimal("0.1"), output_usd=Decimal(4))
    assert models_known(settings)("openai:no-such-model-there")[0] is None
