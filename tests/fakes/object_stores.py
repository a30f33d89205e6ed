"""Servers that speak enough of S3's and Google Cloud Storage's protocols for objects to be kept in them."""

import re
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.http import Connection, HttpServer, Request

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')


class ObjectStore(HttpServer):
    """Objects in a bucket named `mine`.

    Attributes:
        objects: By name.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.objects: dict[str, bytes] = {}

    async def _answer(self, request: Request, connection: Connection) -> None:
        raise NotImplementedError


class S3Server(ObjectStore):
    async def _answer(self, request: Request, connection: Connection) -> None:
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=the-key/")
        bucket, _, key = unquote(urlsplit(request.path).path).lstrip("/").partition("/")
        if bucket != "mine":
            body = b"<Error><Code>NoSuchBucket</Code><Message>There is no such bucket</Message></Error>"
            await connection.answer(404, b"" if request.method == "HEAD" else body)
        elif request.method == "PUT":
            self.objects[key] = request.body
            await connection.answer(200, b"", ETag='"x"')
        elif key not in self.objects:
            body = b"<Error><Code>NoSuchKey</Code><Message>There is no such key</Message></Error>"
            await connection.answer(404, b"" if request.method == "HEAD" else body)
        elif request.method == "HEAD":
            await connection.head(200, content_length=str(len(self.objects[key])))
        else:
            await connection.answer(200, self.objects[key], content_type="application/octet-stream")


class GCSServer(ObjectStore):
    async def _answer(self, request: Request, connection: Connection) -> None:
        url = urlsplit(request.path)
        query = parse_qs(url.query)
        if request.method == "POST":
            name = query["name"][0] if "name" in query else _multipart_name(request)
            data = _multipart_data(request) if query.get("uploadType") == ["multipart"] else request.body
            self.objects.setdefault(name, data)
            await connection.answer_json(200, {"name": name, "size": str(len(data))})
            return
        name = unquote(url.path.partition("/o/")[2])
        if name not in self.objects:
            await connection.answer_json(404, {"error": {"code": 404, "message": "No such object"}})
        elif query.get("alt") == ["media"]:
            await connection.answer(200, self.objects[name], content_type="application/octet-stream")
        else:
            await connection.answer_json(200, {"name": name, "size": str(len(self.objects[name]))})


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
