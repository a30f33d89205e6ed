"""What Grafana is provisioned with: the shape that its documents state, and that its parts belong together."""

import itertools
import json
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from tests.containers.files import DOCKER, compose_services, load

COLUMNS = 24
PORTS = {"prometheus": 9090, "jaeger": 16686}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class DataSource(Strict):
    name: str
    uid: str
    type: Literal["prometheus", "jaeger"]
    access: Literal["proxy"]
    url: str
    is_default: bool = False


class DataSources(Strict):
    api_version: Literal[1]
    datasources: list[DataSource]


class Options(Strict):
    path: PurePosixPath


class Provider(Strict):
    name: str
    type: Literal["file"]
    disable_deletion: bool
    allow_ui_updates: bool
    options: Options


class Providers(Strict):
    api_version: Literal[1]
    providers: list[Provider]


def data_sources() -> list[DataSource]:
    return DataSources.model_validate(load("grafana/provisioning/datasources/prometheus.yaml")).datasources


def dashboard() -> dict[str, Any]:
    return json.loads((DOCKER / "grafana/dashboards/perdure.json").read_text())


def test_each_data_source_is_a_service_at_its_port() -> None:
    found, services = data_sources(), compose_services()
    assert len({each.name for each in found}) == len({each.uid for each in found}) == len(found)
    assert sum(each.is_default for each in found) == 1
    for each in found:
        url = urlsplit(each.url)
        assert (url.scheme, url.port, url.hostname in services) == ("http", PORTS[each.type], True)


def test_the_dashboards_are_where_they_are_looked_for() -> None:
    (provider,) = Providers.model_validate(load("grafana/provisioning/dashboards/perdure.yaml")).providers
    service = compose_services()["grafana"]
    mounted = {inside: outside for outside, inside in (each.split(":")[:2] for each in service["volumes"])}
    assert mounted["/etc/grafana/provisioning"] == "./grafana/provisioning"
    assert mounted[str(provider.options.path)] == "./grafana/dashboards"
    home = PurePosixPath(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == provider.options.path
    assert (DOCKER / "grafana/dashboards" / home.name).is_file()


def test_each_panel_asks_a_data_source_that_there_is() -> None:
    known = {(each.uid, each.type) for each in data_sources()}
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0
        asked = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {(each["uid"], each["type"]) for each in asked} <= known
        assert all(target["expr"] for target in panel["targets"])


def test_panels_are_in_rows_and_none_lies_on_another() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    taken = [
        {(x, y) for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])} for p in places
    ]
    assert all(p["x"] + p["w"] <= COLUMNS for p in places)
    assert not any(one & other for one, other in itertools.combinations(taken, 2))
    for row in {p["y"] for p in places}:
        assert next(p["x"] for p in places if p["y"] == row) == 0, "a row begins at the left"
