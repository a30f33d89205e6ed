"""Servers that speak enough of S3's and Google Cloud Storage's protocols for objects to be kept in them.

What their answers have in common with the vendors' was compared with moto and gcp-storage-emulator.
"""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
from functools import cached_property
from hashlib import md5
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from temporalio.converter import DataConverter

from perdure.settings import Settings, StorageTable
from perdure.storage.opening import data_converter
from tests.fakes.http import Connection, HttpServer, Request

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
_XMLNS = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Refusal(NamedTuple):
    """What a store says in place of doing it."""

    status: int
    code: str
    message: str


DENIED = Refusal(403, "AccessDenied", "You may not")


class ObjectStore(HttpServer):
    """Objects in a bucket named `mine`.

    Attributes:
        objects: By name.
        modified: When each was written, in seconds since 1970.
        asked: What was asked for: `list`, `head`, `get`, `put`, `renew` or `delete`, and the name; with
            S3 `delete-all` and, for each of these, `delete-key`.
        refused: What is answered in place of doing a kind of request.
        meanwhile: What happens just before a kind of request is answered, once.
        page_size: Of listings.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, float] = {}
        self.asked: list[tuple[str, str]] = []
        self.refused: dict[str, Refusal] = {}
        self.meanwhile: dict[str, Callable[[], None]] = {}
        self.page_size = 1000

    def settings(self, bucket: str = "mine") -> Settings:
        """Return those of a project that keeps its payloads here."""
        driver = "s3" if isinstance(self, S3Server) else "gcs"
        region = "eu-central-1" if driver == "s3" else None
        table = StorageTable(driver=driver, bucket=bucket, endpoint_url=self.url, region=region)
        return Settings(storage=table, project_dir=Path("/nowhere"))

    @cached_property
    def converter(self) -> DataConverter:
        """What keeps payloads here, over connections that stay open."""
        return data_converter(self.settings())

    def write(self, name: str, data: bytes) -> None:
        """Write an object now."""
        self.objects[name] = data
        self.modified[name] = time.time()

    def age(self, name: str, seconds: float) -> None:
        """Let an object be that much older."""
        self.modified[name] -= seconds

    def remove(self, name: str) -> None:
        del self.objects[name], self.modified[name]

    def page(self, prefix: str, after: str) -> tuple[list[str], bool]:
        """Return the next names of a listing, and whether more follow."""
        names = sorted(name for name in self.objects if name.startswith(prefix) and name > after)
        return names[: self.page_size], len(names) > self.page_size

    def begin(self, kind: str, name: str) -> Refusal | None:
        """Note a request, and say how it is refused."""
        self.asked.append((kind, name))
        if kind in self.meanwhile:
            self.meanwhile.pop(kind)()
        return self.refused.get(kind)

    async def _answer(self, request: Request, connection: Connection) -> None:
        raise NotImplementedError


class S3Server(ObjectStore):
    async def _answer(self, request: Request, connection: Connection) -> None:
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=the-key/")
        url = urlsplit(request.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        query = parse_qs(url.query, keep_blank_values=True)
        kind = self._kind(request, query)
        refusal = self.begin(kind, key)
        if bucket != "mine":
            refusal = Refusal(404, "NoSuchBucket", "There is no such bucket")
        needed = {"head": key, "get": key, "renew": self._source(request)}.get(kind)
        if refusal is None and needed is not None and needed not in self.objects:
            refusal = Refusal(404, "NoSuchKey", "There is no such key")
        if refusal is not None:
            body = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>".encode()
            await self._send(connection, refusal.status, b"" if request.method == "HEAD" else body)
        elif kind == "list":
            await self._send(connection, 200, self._listing(query))
        elif kind == "delete" and request.method == "POST":
            if self.begin("delete-all", ""):
                connection.reset()
                return
            await self._send(connection, 200, self._deleted(request))
        elif kind == "delete":
            self.objects.pop(key, None)
            await self._send(connection, 204, b"")
        else:
            await self._object(kind, key, request, connection)

    async def _object(self, kind: str, key: str, request: Request, connection: Connection) -> None:
        if kind in ("put", "renew"):
            self.write(key, request.body if kind == "put" else self.objects[self._source(request)])
            body = b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>" if kind == "renew" else b""
            await self._send(connection, 200, body, ETag='"x"')
            return
        headers = {"date": formatdate(usegmt=True), "last_modified": formatdate(self.modified[key], usegmt=True)}
        if kind == "head":
            await connection.head(200, content_length=str(len(self.objects[key])), **headers)
        else:
            octets = "application/octet-stream"
            await connection.answer(200, self.objects[key], content_type=octets, **headers)

    async def _send(self, connection: Connection, status: int, body: bytes, **headers: str) -> None:
        await connection.answer(
            status, body, content_type="application/xml", date=formatdate(usegmt=True), **headers
        )

    def _kind(self, request: Request, query: dict[str, list[str]]) -> str:
        if "x-amz-copy-source" in request.headers:
            assert request.headers["x-amz-metadata-directive"] == "REPLACE", "else S3 refuses a copy to itself"
            return "renew"
        if "list-type" in query:
            return "list"
        return {"POST": "delete"}.get(request.method, request.method.lower())

    def _source(self, request: Request) -> str:
        return unquote(request.headers.get("x-amz-copy-source", "")).lstrip("/").partition("/")[2]

    def _listing(self, query: dict[str, list[str]]) -> bytes:
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        names, is_truncated = self.page(query["prefix"][0], after)
        names = names[: int(query.get("max-keys", ["1000"])[0])]
        assert query["encoding-type"] == ["url"]
        contents = "".join(
            f"<Contents><Key>{quote(name)}</Key><Size>{len(self.objects[name])}</Size>"
            f"<LastModified>{_iso(self.modified[name])}</LastModified></Contents>"
            for name in names
        )
        token = f"<NextContinuationToken>{escape(names[-1])}</NextContinuationToken>" if is_truncated else ""
        return (
            f'<ListBucketResult xmlns="{_XMLNS[1:-1]}"><EncodingType>url</EncodingType>{contents}'
            f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>{token}</ListBucketResult>"
        ).encode()

    def _deleted(self, request: Request) -> bytes:
        assert "content-md5" in request.headers or "x-amz-checksum-crc32" in request.headers
        errors = ""
        for key in ElementTree.fromstring(request.body).iter(f"{_XMLNS}Key"):
            name = key.text or ""
            if refusal := self.begin("delete-key", name):
                errors += (
                    f"<Error><Key>{escape(name)}</Key><Code>{refusal.code}</Code>"
                    f"<Message>{refusal.message}</Message></Error>"
                )
            elif name in self.objects:
                self.remove(name)
        return f'<DeleteResult xmlns="{_XMLNS[1:-1]}">{errors}</DeleteResult>'.encode()


class GCSServer(ObjectStore):
    async def _answer(self, request: Request, connection: Connection) -> None:
        url = urlsplit(request.path)
        query = parse_qs(url.query)
        if request.method == "POST":
            await self._put(request, query, connection)
            return
        name = unquote(url.path.partition("/o/")[2])
        kind = {"PATCH": "renew", "DELETE": "delete"}.get(request.method, "list")
        if kind == "list" and name:
            kind = "get" if query.get("alt") == ["media"] else "head"
        refusal = self._refusal(kind, url.path, name, query)
        if refusal is not None:
            error = {"code": refusal.status, "message": refusal.message, "errors": [{"reason": refusal.code}]}
            await connection.answer_json(refusal.status, {"error": error})
        elif kind == "list":
            await connection.answer_json(200, self._listing(query))
        elif kind == "get":
            await connection.answer(200, self.objects[name], content_type="application/octet-stream")
        elif kind == "delete":
            self.remove(name)
            await connection.answer(204, b"")
        else:
            if kind == "renew":
                assert json.loads(request.body)["metadata"]
                self.modified[name] = time.time()
            await connection.answer_json(200, self._metadata(name))

    def _refusal(self, kind: str, path: str, name: str, query: dict[str, list[str]]) -> Refusal | None:
        refusal = self.begin(kind, name)
        if "/b/mine/" not in path:
            return Refusal(404, "notFound", "The specified bucket does not exist.")
        if refusal is None and kind != "list" and name not in self.objects:
            return Refusal(404, "notFound", "No such object")
        if refusal is None and kind == "delete" and not self._is_as_expected(name, query):
            return Refusal(412, "conditionNotMet", "At least one of the pre-conditions did not hold.")
        return refusal

    async def _put(self, request: Request, query: dict[str, list[str]], connection: Connection) -> None:
        name = query["name"][0] if "name" in query else _multipart_name(request)
        data = _multipart_data(request) if query.get("uploadType") == ["multipart"] else request.body
        self.begin("put", name)
        if name not in self.objects:
            self.write(name, data)
        await connection.answer_json(200, self._metadata(name))

    def _metadata(self, name: str) -> dict[str, str]:
        data, modified = self.objects[name], self.modified[name]
        return {
            "name": name,
            "size": str(len(data)),
            "updated": _iso(modified),
            "generation": md5(data, usedforsecurity=False).hexdigest(),
            "metageneration": str(modified),
        }

    def _is_as_expected(self, name: str, query: dict[str, list[str]]) -> bool:
        found = self._metadata(name)
        return [found["generation"]] == query.get("ifGenerationMatch") and [found["metageneration"]] == query.get(
            "ifMetagenerationMatch"
        )

    def _listing(self, query: dict[str, list[str]]) -> dict[str, object]:
        names, is_truncated = self.page(query["prefix"][0], query.get("pageToken", [""])[0])
        names = names[: int(query.get("maxResults", ["1000"])[0])]
        answer: dict[str, object] = {"items": [self._metadata(name) for name in names]} if names else {}
        return answer | ({"nextPageToken": names[-1]} if is_truncated else {})


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parts(request: Request) -> list[bytes]:
    found = _BOUNDARY.search(request.headers["content-type"])
    assert found is not None
    return request.body.split(b"--" + found[1].encode())[1:-1]


def _multipart_name(request: Request) -> str:
    found = re.search(rb'"name":\s*"([^"]+)"', _parts(request)[0])
    assert found is not None
    return found[1].decode()


def _multipart_data(request: Request) -> bytes:
    return _parts(request)[1].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
