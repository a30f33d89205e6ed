"""Tools of an OpenAPI document: what a schema admits is sent, and is what the document says it is.

The judge is `openapi-core`: it reads the requests that a local server recorded, by the document itself.
"""

from collections.abc import AsyncIterator
from copy import deepcopy
from functools import cache
from http.cookies import SimpleCookie
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from werkzeug.datastructures import Headers, ImmutableMultiDict

from perdure import Tool, ToolContext
from perdure.errors import InvalidToolError
from perdure.tools import env, openapi_tools
from tests.fakes.http import Connection, HttpServer, Request
from tests.support.from_schema import from_schema

PETSTORE = Path(__file__).with_name("petstore.yaml")
DOCUMENT: dict[str, Any] = yaml.safe_load(PETSTORE.read_text())
JUDGED: dict[str, Any] = {**deepcopy(DOCUMENT), "servers": [{"url": "/"}]}
JUDGED["components"]["schemas"]["Pet"]["required"].remove("id")  # read-only: openapi-core wants it of requests too
API = OpenAPI.from_dict(JUDGED)
KEY = "hunter2-hunter2"
OPERATIONS = ("listPets", "addPet", "getPet", "replacePet", "bookVisit")


@cache
def tool_of(url: str, name: str) -> Tool:
    return by_name(base_url=url, auth=env("PETS_KEY"))[name]


def by_name(spec: Any = PETSTORE, **options: Any) -> dict[str, Tool]:
    return {each.name: each for each in openapi_tools(spec, **options)}


async def answer(request: Request, connection: Connection) -> None:
    await connection.answer_json(200, {"done": True})


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[HttpServer]:
    async with HttpServer(answer) as running:
        yield running


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as opened:
        yield opened


def calling(client: httpx.AsyncClient) -> ToolContext:
    return cast("ToolContext", SimpleNamespace(http=client, idempotency_key="key-1"))


def as_openapi(request: Request) -> Any:
    parts = urlsplit(request.path)
    cookies = {name: morsel.value for name, morsel in SimpleCookie(request.headers.get("cookie", "")).items()}
    return SimpleNamespace(
        host_url="http://pets",
        path=parts.path,
        path_pattern=None,
        full_url_pattern=f"http://pets{parts.path}",
        method=request.method.lower(),
        parameters=RequestParameters(
            query=ImmutableMultiDict(parse_qsl(parts.query, keep_blank_values=True)),
            header=Headers(list(request.headers.items())),
            cookie=ImmutableMultiDict(cookies),
        ),
        body=request.body,
        content_type=request.headers.get("content-type", ""),
    )


def understood(request: Request) -> dict[str, Any]:
    """Return what a server that goes by the document reads from a request; raise where it isn't valid."""
    result = API.unmarshal_request(as_openapi(request))
    assert not result.errors, result.errors
    found: dict[str, Any] = {}
    for place in ("path", "query", "header", "cookie"):
        for name, value in getattr(result.parameters, place).items():
            found[f"{name}_query" if (place, name) == ("query", "id") else name] = plain(value)
    if request.body:
        found["body"] = plain(result.body)
    return found


def plain(value: Any) -> Any:
    """Return data as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return {key: plain(each) for key, each in vars(value).items()}
    return value.isoformat() if hasattr(value, "isoformat") else value


@pytest.mark.parametrize("name", OPERATIONS)
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_what_fits_the_schema_arrives_as_the_document_says(
    name: str, data: st.DataObject, server: HttpServer, client: httpx.AsyncClient
) -> None:
    tool = tool_of(server.url, name)
    schema = tool.spec.parameters
    arguments = data.draw(from_schema(schema))
    Draft202012Validator(schema).validate(arguments)
    server.requests.clear()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PETS_KEY", KEY)
        assert await tool.run(tool.bind(arguments), calling(client)) == '{"done": true}'
    (request,) = server.requests
    assert understood(request) == {key: each for key, each in arguments.items() if each is not None}
    assert request.headers["x-api-key"] == KEY


def test_declarations() -> None:
    tools = by_name(deprecated=True)
    assert list(tools) == [
        "listPets",
        "addPet",
        "getPet",
        "replacePet",
        "delete_pets_id",
        "renamePet",
        "bookVisit",
    ]
    assert [name for name, tool in tools.items() if tool.spec.read_only] == ["listPets", "getPet"]
    idempotent = [name for name, tool in tools.items() if tool.spec.idempotent]
    assert idempotent == ["listPets", "getPet", "replacePet", "delete_pets_id"]
    assert all(tool.spec.idempotent for tool in by_name(idempotency_header="Idempotency-Key").values())
    asked = [name for name, tool in by_name(needs_approval=True).items() if tool.spec.needs_approval]
    assert asked == ["addPet", "replacePet", "delete_pets_id", "bookVisit"]
    assert tools["renamePet"].spec.description.startswith("Deprecated.")
    assert "renamePet" not in by_name()
    schema = tools["listPets"].spec.parameters
    assert schema["required"] == ["status"]
    assert schema["properties"]["status"]["enum"] == ["free", "sold", "on hold"]
    pet = tools["addPet"].spec.parameters["$defs"]["Pet"]
    assert pet["required"] == ["name", "kind", "owner"]
    assert "id" not in pet["properties"]
    assert pet["properties"]["age"]["type"] == ["integer", "null"]
    assert set(tools["bookVisit"].spec.parameters["properties"]) == {"id", "id_query", "when", "body"}
    assert by_name()["addPet"].is_same(by_name()["addPet"])


def test_what_is_chosen() -> None:
    assert list(by_name(include=["vet"])) == ["bookVisit"]
    assert list(by_name(include=["GET *"])) == ["listPets", "getPet"]
    assert list(by_name(include=["pets"], exclude=["*Pet", "*Pets"])) == ["delete_pets_id"]
    assert list(by_name(include=["getPet"], prefix="pets_")) == ["pets_getPet"]
    for wrong in ({"include": ["getPets"]}, {"include": ["vet"], "exclude": ["bookVisit"]}):
        with pytest.raises(InvalidToolError, match="no operation"):
            by_name(**wrong)


def document(paths: dict[str, Any], version: str = "3.1.0", **more: Any) -> dict[str, Any]:
    return {"openapi": version, "servers": [{"url": "https://h/"}], "paths": paths, **more}


def test_names_fit_every_vendor_and_stay() -> None:
    paths: dict[str, Any] = {
        "/a": {"get": {"operationId": "same.name"}, "post": {"operationId": "same_name"}},
        "/b": {"get": {"operationId": "x" * 100}, "put": {"operationId": "2nd"}},
        "/c/{é}": {"get": {"parameters": [{"name": "é", "in": "path", "schema": {}}]}},
        "/d": {"get": {"operationId": "final_output"}, "put": {"operationId": "perdure_x"}},
    }
    names = [each.name for each in openapi_tools(document(paths))]
    assert len(set(names)) == 7
    assert all(len(name) <= 64 and name[0].isalpha() for name in names)
    assert names[0].startswith("same_name_")
    assert names[1].startswith("same_name_")
    fewer = [each.name for each in openapi_tools(document(dict(reversed(paths.items()))))]
    assert sorted(fewer) == sorted(names)


def test_schemas_of_version_3_0_and_ones_that_hold_themselves() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}}}
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "nullable": True, "minimum": 0, "exclusiveMinimum": True, "example": 3},
            "b": {"type": "string", "enum": ["x"], "nullable": True},
            "c": {"nullable": True, "allOf": [{"$ref": "#/components/schemas/Node"}], "description": "C."},
            "example": {"type": "string", "pattern": "(?<x>"},
        },
    }
    body = {"content": {"application/json": {"schema": schema}}}
    spec = document({"/a": {"post": {"requestBody": body}}}, "3.0.3", components={"schemas": {"Node": node}})
    (tool,) = openapi_tools(spec)
    found = tool.spec.parameters["properties"]["body"]["properties"]
    assert found["a"] == {"type": ["integer", "null"], "exclusiveMinimum": 0}
    assert found["b"] == {"type": ["string", "null"], "enum": ["x", None]}
    assert found["c"]["anyOf"] == [{"allOf": [{"$ref": "#/$defs/Node"}]}, {"type": "null"}]
    assert found["example"] == {"type": "string"}
    assert tool.spec.parameters["$defs"]["Node"]["properties"]["next"] == {"$ref": "#/$defs/Node"}
    check = Draft202012Validator(tool.spec.parameters)
    assert check.is_valid({"body": {"a": None, "b": None, "c": {"next": {"next": {}}}}})
    assert not check.is_valid({"body": {"a": 0}})


@pytest.mark.parametrize(
    ("spec", "options", "reason"),
    [
        ("no-such-file.yaml", {}, "can't be read"),
        ({"swagger": "2.0"}, {}, "swagger 2.0"),
        (document({}), {}, "no operation is left"),
        ({"openapi": "3.1.0", "paths": {"/a": {"get": {}}}}, {}, "no server"),
        (document({"/a": {"get": {}}}, servers=[{"url": "/v1"}]), {}, "not absolute"),
        (document({"/a": {"get": {}}}), {"base_url": "ftp://x"}, "not absolute"),
        (document({"/a": {"get": {}}}), {"base_url": "https://user:hunter2@x"}, "basic_auth"),
        (document({"/a": {"$ref": "other.yaml#/x"}}), {}, "leads out of the document"),
        (document({"/a": {"get": {"parameters": [{"$ref": "#/nowhere"}]}}}), {}, "nothing is at"),
        (document({"/a": {"$ref": "#/paths/~1a"}}), {}, "circle"),
    ],
)
def test_what_cannot_be_used_is_refused(spec: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidToolError, match=reason) as caught:
        openapi_tools(spec, **options)
    assert "hunter2" not in str(caught.value)
