"""Prometheus' configuration, and each alert over series that raise it and that don't; by promtool itself."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.containers.files import DOCKER, compose_services, load
from tests.support.programs import find, needs

RULES = Path(__file__).with_name("alerts.yml")


def promtool(*arguments: str | Path) -> str:
    program = find("promtool")
    assert program
    ended = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    return told


@needs("promtool")
def test_the_configuration_and_its_rules_are_valid() -> None:
    assert "SUCCESS: 7 rules found" in promtool("check", "config", DOCKER / "prometheus/prometheus.yml")


@needs("promtool")
def test_alerts_are_raised_when_they_should() -> None:
    assert "SUCCESS" in promtool("test", "rules", RULES)


def test_every_alert_has_its_test() -> None:
    alerts = {rule["alert"] for group in load("prometheus/alerts.yml")["groups"] for rule in group["rules"]}
    raised: dict[str, set[bool]] = {alert: set() for alert in alerts}
    for each in (each for test in yaml.safe_load(RULES.read_text())["tests"] for each in test["alert_rule_test"]):
        raised[each["alertname"]].add(bool(each.get("exp_alerts")))
    assert raised == {alert: {True, False} for alert in alerts}


@pytest.mark.parametrize(
    "job", load("prometheus/prometheus.yml")["scrape_configs"], ids=lambda job: job["job_name"]
)
def test_what_is_scraped_is_a_service(job: dict[str, list[dict[str, list[str]]]]) -> None:
    hosts = [name for each in job.get("dns_sd_configs", []) for name in each["names"]]
    hosts += [target.partition(":")[0] for each in job.get("static_configs", []) for target in each["targets"]]
    assert hosts
    assert set(hosts) <= set(compose_services())
