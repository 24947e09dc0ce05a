"""The object storage that Daytona's SDK uploads a build context to: S3's multipart calls, over TLS."""

import hashlib
import secrets
from email.utils import formatdate
from pathlib import Path
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harbor_nb.practice_clouds.backend import Backend, MissingError
from harbor_nb.practice_clouds.http import NotServedError, TooLargeError, UnauthorizedError, save_body

BUCKET = "daytona-volume-builds"
REGION = "us-east-1"


class Storage:
    """One bucket, whose objects are files of the backend's folder."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.access_key, self.secret = f"PRACTICE{secrets.token_hex(6).upper()}", secrets.token_urlsafe(24)
        self.token = secrets.token_urlsafe(24)
        self.objects: dict[str, Path] = {}
        self.uploads: dict[str, dict[int, Path]] = {}

    def environ(self, _url: str) -> dict[str, str]:
        """Nothing: the SDK is told by the API."""
        return {}

    def key(self, request: Request) -> str | None:
        """The account's key, for a call that is signed with what the API gave out."""
        signed = f"Credential={self.access_key}/" in request.headers.get("authorization", "")
        token = request.headers.get("x-amz-security-token", "")
        return self.backend.key if signed and secrets.compare_digest(token.encode(), self.token.encode()) else None

    def open_path(self, _path: str) -> bool:
        """Whether a path needs no key."""
        return False

    def failure(self, error: Exception) -> Response:
        """S3's own answer to a failure."""
        status, code = 500, "InternalError"
        match error:
            case UnauthorizedError():
                status, code = 403, "InvalidAccessKeyId"
            case MissingError() | NotServedError():
                status, code = 404, "NoSuchKey"
            case TooLargeError():
                status, code = 400, "EntityTooLarge"
        body = f"<Error><Code>{code}</Code><Message>{escape(str(error))}</Message></Error>"
        return Response(body, status, media_type="application/xml")

    def routes(self) -> list[Route]:
        """Its calls."""
        path = f"/{BUCKET}/{{key:path}}"
        return [
            Route(path, self.head, methods=["HEAD"]),
            Route(path, self.get, methods=["GET"]),
            Route(path, self.post, methods=["POST"]),
            Route(path, self.put, methods=["PUT"]),
            Route(path, self.delete, methods=["DELETE"]),
        ]

    def _object(self, request: Request) -> Path:
        found = self.objects.get(request.path_params["key"])
        if found is None:
            raise MissingError("The specified key does not exist.")
        return found

    async def head(self, request: Request) -> Response:
        found = self._object(request)
        facts = found.stat()
        headers = {
            "content-length": str(facts.st_size), "etag": f'"{found.name}"',
            "last-modified": formatdate(facts.st_mtime, usegmt=True),
        }  # fmt: skip
        return Response(headers=headers)

    async def get(self, request: Request) -> Response:
        return Response(self._object(request).read_bytes(), headers={"etag": f'"{self._object(request).name}"'})

    def _parts(self, request: Request) -> dict[int, Path]:
        parts = self.uploads.get(request.query_params.get("uploadId", ""))
        if parts is None:
            raise MissingError("The specified upload does not exist.")
        return parts

    async def put(self, request: Request) -> Response:
        target = self.backend.folder / f"part-{secrets.token_hex(8)}"
        await save_body(request, target)
        if "uploadId" in request.query_params:
            self._parts(request)[int(request.query_params["partNumber"])] = target
        else:
            self.objects[request.path_params["key"]] = target
        digest = hashlib.md5(target.read_bytes(), usedforsecurity=False).hexdigest()
        return Response(headers={"etag": f'"{digest}"'})

    async def post(self, request: Request) -> Response:
        key = request.path_params["key"]
        if "uploads" in request.query_params:
            upload = secrets.token_hex(8)
            self.uploads[upload] = {}
            said = f"<Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
            return self._xml(f"<InitiateMultipartUploadResult>{said}</InitiateMultipartUploadResult>")
        parts = self._parts(request)
        whole = self.backend.folder / f"object-{secrets.token_hex(8)}"
        with whole.open("wb") as file:
            for number in sorted(parts):
                file.write(parts[number].read_bytes())
                parts[number].unlink()
        self.objects[key] = whole
        del self.uploads[request.query_params["uploadId"]]
        said = f"<Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key><ETag>&quot;{whole.name}&quot;</ETag>"
        return self._xml(f"<CompleteMultipartUploadResult>{said}</CompleteMultipartUploadResult>")

    @staticmethod
    def _xml(body: str) -> Response:
        return Response(f'<?xml version="1.0" encoding="UTF-8"?>{body}', media_type="application/xml")

    async def delete(self, request: Request) -> Response:
        for part in self._parts(request).values():
            part.unlink(missing_ok=True)
        del self.uploads[request.query_params["uploadId"]]
        return Response(status_code=204)
