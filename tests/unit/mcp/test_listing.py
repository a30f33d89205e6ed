"""What agents get of a server's list: names, policies, and what is left out."""

import json
from typing import Any

import pytest

from perdure.agents._names import is_name
from perdure.agents.mcp import MCPServer
from perdure.contracts.spec import McpSource
from perdure.mcp._listing import Listing, Offer, read_listing, without_collisions

OBJECT: dict[str, Any] = {"type": "object", "properties": {"path": {"type": "string"}}}


def offer(name: str, description: str = "Do it.", **options: Any) -> Offer:
    options.setdefault("parameters", OBJECT)
    return Offer(name=name, description=description, **options)


def read(*offers: Offer, has_resources: bool = False, has_prompts: bool = False, **options: Any) -> Listing:
    server = MCPServer.stdio("files", "npx", **options)
    return read_listing(
        server, offers, has_resources=has_resources, has_prompts=has_prompts, check_schema=lambda _: ""
    )


def names(listing: Listing) -> list[str]:
    return [each.name for each in listing.specs]


def test_tools_are_called_after_their_server() -> None:
    found = read(offer("read"), offer("write"))
    assert names(found) == ["files__read", "files__write"]
    assert found.specs[0].mcp == McpSource(server="files", tool="read", digest=offer("read").digest)


def test_only_allowed_ones_and_under_other_names() -> None:
    found = read(
        offer("read_file"), offer("read_dir"), offer("write"), allow=["read_*"], rename={"read_dir": "list"}
    )
    assert names(found) == ["files__read_file", "list"]
    assert names(read(offer("read"), prefix="")) == ["read"]


@pytest.mark.parametrize("own", ["ünïcödé", "a.b/c", "9lives", "x" * 200, "", "final_output", "a\x1b[31m"])
def test_every_name_is_one_that_vendors_take(own: str) -> None:
    for prefix in ("", "p_"):
        [spec] = read(offer(own), prefix=prefix).specs
        assert is_name(spec.name)
        assert spec.mcp is not None
        assert spec.mcp.tool == own


def test_names_that_become_equal_stay_different() -> None:
    found = names(read(offer("a.b"), offer("a/b"), offer("a_b")))
    assert len(set(found)) == 3
    assert found[0] == "files__a_b"
    assert names(read(offer("a.b"), offer("a/b"), offer("a_b"))) == found, "the same each time"


def test_two_tools_of_one_name_are_one() -> None:
    found = read(offer("read"), offer("read", "Do something else."))
    assert names(found) == ["files__read"]
    assert found.left_out == (("read", "the server has two tools of that name"),)


def test_a_thousand_tools() -> None:
    found = read(*(offer(f"tool{number}") for number in range(1000)))
    assert len(found.specs) == 128
    assert len(found.left_out) == 872
    assert "choose with allow" in found.left_out[0][1]


def test_a_megabyte_of_description() -> None:
    found = read(offer("long", "x" * 1_000_000), offer("short"))
    assert names(found) == ["files__short"]
    assert "more than max_tool_bytes = 16384" in found.left_out[0][1]


RECURSIVE = {"type": "object", "properties": {"next": {"$ref": "#"}, "a": {"$ref": "#/properties/b"}}}
LOOP = {"type": "object", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
BOMB: dict[str, Any] = {
    "type": "object",
    "$defs": {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)},
    "properties": {"x": {"$ref": "#/$defs/d0"}},
}
ELSEWHERE = {"type": "object", "properties": {"x": {"$ref": "http://169.254.169.254/latest"}}}


@pytest.mark.parametrize(
    "schema", [RECURSIVE, LOOP, BOMB, ELSEWHERE], ids=["recursive", "loop", "bomb", "elsewhere"]
)
def test_schemas_without_an_end(schema: dict[str, Any]) -> None:
    found = read(offer("odd", parameters=schema), offer("good"))
    assert names(found) == ["files__good"]
    assert "its schema refers to itself" in found.left_out[0][1]


def test_references_within_a_schema_are_fine() -> None:
    schema = {"type": "object", "$defs": {"p": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/p"}}}
    assert names(read(offer("good", parameters=schema))) == ["files__good"]


def test_arguments_that_are_no_object() -> None:
    assert read(offer("odd", parameters={"type": "string"})).left_out == (("odd", "its arguments are no object"),)


def test_what_a_server_says_of_itself_is_believed_only_where_asked_for() -> None:
    said = offer("read", is_read_only=True)
    [untrusted] = read(said).specs
    assert (untrusted.read_only, untrusted.idempotent, untrusted.max_attempts) == (False, False, 1)
    [trusted] = read(said, trust_annotations=True).specs
    assert (trusted.read_only, trusted.idempotent, trusted.max_attempts) == (True, True, 3)


def test_policies_are_the_users() -> None:
    found = read(
        offer("get"), offer("put"), offer("rm"), read_only=["get"], idempotent=["p*"], needs_approval=["rm"]
    )
    policies = [(each.read_only, each.idempotent, each.needs_approval) for each in found.specs]
    assert policies == [(True, True, False), (False, True, False), (False, False, True)]


def test_nothing_in_a_session_is_run_twice() -> None:
    [spec] = read(offer("get"), read_only=["get"], stateful=True).specs
    assert (spec.idempotent, spec.max_attempts, spec.read_only) == (False, 1, True)


def test_the_digest_tells_all_that_the_model_is_told() -> None:
    digests = {
        offer("a").digest,
        offer("b").digest,
        offer("a", "Do that.").digest,
        offer("a", parameters={"type": "object"}).digest,
        offer("a", is_read_only=True).digest,
    }
    assert len(digests) == 5
    shuffled = json.loads(json.dumps(OBJECT, sort_keys=True))
    assert offer("a", parameters=shuffled).digest == offer("a").digest


def test_a_listing_tells_changed_and_gone_tools() -> None:
    source = McpSource(server="files", tool="read", digest=offer("read").digest)
    assert read(offer("read")).digest(source) == source.digest
    assert read(offer("read", "Send it to me.")).digest(source) not in (None, source.digest)
    assert read(offer("write")).digest(source) is None


def test_resources_and_prompts_only_where_wanted_and_there() -> None:
    assert names(read(has_resources=True, has_prompts=True)) == []
    assert names(read(resources=True, prompts=True)) == []
    found = read(offer("list_resources"), has_resources=True, has_prompts=True, resources=True, prompts=True)
    assert names(found) == [
        "files__list_resources",
        "files__read_resource",
        "files__list_prompts",
        "files__get_prompt",
    ]
    assert found.left_out == (("files__list_resources", "the server has a tool of that name"),)


def test_servers_and_agents_share_one_room_of_names() -> None:
    first, second = read(offer("a"), prefix=""), read(offer("a"), offer("b"), offer("own"), prefix="")
    specs, lost = without_collisions([first, second], ["own"])
    assert ([each.name for each in specs], lost) == (["a", "b"], ["a", "own"])


def test_all_tools_of_an_agent_fit_into_its_spec() -> None:
    big = [offer(f"tool{number}", "x" * 15_000) for number in range(100)]
    specs, lost = without_collisions([read(*big)], [])
    assert sum(len(each.to_bytes()) for each in specs) <= 400_000
    assert len(specs) + len(lost) == 100
