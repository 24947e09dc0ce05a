"""Modal's mounts, blobs, secrets and images: content-addressed files, and layers of Dockerfile lines."""

import asyncio
import hashlib
import logging
import secrets
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modal_proto import api_pb2
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harbor_nb.errors import BuildError
from harbor_nb.practice_clouds.backend import Backend, MissingError, RefusedBuildError
from harbor_nb.practice_clouds.http import json_answer, save_body
from harbor_nb.practice_clouds.modal_rpc import receive
from harbor_nb.sandbox import Image

log = logging.getLogger("harbor_nb.practice")
BUILDER = "2025.06"


@dataclass
class Layer:
    """An image: all its lines, the files they copy, and its build."""

    id: str
    lines: list[str]
    files: dict[str, str]  # path in the context -> digest
    logs: list[str] = field(default_factory=list)
    image: Image | None = None
    failure: str | None = None
    task: "asyncio.Task[None] | None" = None


class Images:
    """The calls about what a sandbox is made from."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.mounts: dict[str, dict[str, str]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.layers: dict[str, Layer] = {}
        self.blobs: dict[str, Path] = {}
        self.blob_url = ""

    def _file(self, digest: str) -> Path:
        return self.backend.folder / f"sha256-{int(digest or '0', 16):064x}"

    async def mount_batched_check_existence(self, request: Any) -> Any:
        """Tell which files were not uploaded yet."""
        missing = [digest for digest in request.sha256_hex_hashes if not self._file(digest).exists()]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def mount_put_file(self, request: Any) -> Any:
        """Take a file, by its bytes or by an uploaded blob."""
        target = self._file(request.sha256_hex)
        if request.data_blob_id:
            source = self.blobs.get(request.data_blob_id)
            if source is None:
                raise MissingError(f"blob {request.data_blob_id}")
            await asyncio.to_thread(shutil.copyfile, source, target)
        elif request.data or request.sha256_hex == hashlib.sha256(b"").hexdigest():
            target.write_bytes(request.data)
        return api_pb2.MountPutFileResponse(exists=target.exists())

    async def mount_get_or_create(self, request: Any) -> Any:
        """Make a mount of uploaded files."""
        made = f"mo-{secrets.token_hex(11)}"
        self.mounts[made] = {file.filename: file.sha256_hex for file in request.files}
        return api_pb2.MountGetOrCreateResponse(mount_id=made)

    async def blob_create(self, request: Any) -> Any:
        """Give an address to upload to."""
        made = f"bl-{secrets.token_urlsafe(16)}"
        self.blobs[made] = self.backend.folder / made
        return api_pb2.BlobCreateResponse(blob_id=made, upload_url=f"{self.blob_url}/{made}")

    async def secret_get_or_create(self, request: Any) -> Any:
        """Keep a secret's variables for this run."""
        if request.deployment_name and not request.env_dict:
            raise MissingError(f"Secret '{request.deployment_name}'")
        made = f"st-{secrets.token_hex(11)}"
        self.secrets[made] = dict(request.env_dict)
        return api_pb2.SecretGetOrCreateResponse(secret_id=made)

    def variables(self, sources: Any) -> dict[str, str]:
        """Give the variables of some secrets."""
        found: dict[str, str] = {}
        for source in sources:
            if source.secret_id:
                if source.secret_id not in self.secrets:
                    raise MissingError(f"Secret {source.secret_id}")
                found |= self.secrets[source.secret_id]
            else:
                found |= dict(source.env.contents)
        return found

    async def image_get_or_create(self, request: Any) -> Any:
        """Start the build of an image, or give the one there is."""
        asked = request.image
        bases = {
            base.docker_tag: self.layers[base.image_id] for base in asked.base_images if base.image_id in self.layers
        }
        lines: list[str] = []
        files = dict(self.mounts.get(asked.context_mount_id, {}))
        for line in asked.dockerfile_commands:
            tag = line.split()[1] if line.upper().startswith("FROM ") and len(line.split()) > 1 else None
            if tag in bases:
                lines += bases[tag].lines
                files = bases[tag].files | files
            else:
                lines.append(line)
        made = f"im-{hashlib.sha256(repr((lines, sorted(files.items()))).encode()).hexdigest()[:22]}"
        layer = self.layers.get(made)
        if layer is None or layer.failure or request.force_build:
            layer = self.layers[made] = Layer(made, lines, files)
            layer.task = asyncio.create_task(self._build(layer, bool(request.force_build)))
        assert layer.task is not None
        await asyncio.wait([layer.task], timeout=0.05)
        return api_pb2.ImageGetOrCreateResponse(image_id=made, result=self._result(layer), metadata=self._metadata())

    @staticmethod
    def _metadata() -> Any:
        return api_pb2.ImageMetadata(image_builder_version=BUILDER)

    @staticmethod
    def _result(layer: Layer) -> Any:
        result = api_pb2.GenericResult()
        if layer.image is not None:
            result.status = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
        elif layer.failure is not None:
            result.status, result.exception = api_pb2.GenericResult.GENERIC_STATUS_FAILURE, layer.failure
        return result

    async def _build(self, layer: Layer, force: bool) -> None:
        try:
            context = await asyncio.to_thread(self._context, layer)
            layer.image = await self.backend.build("\n".join(layer.lines), context, force=force, say=layer.logs.append)
        except (BuildError, RefusedBuildError) as error:
            layer.logs.append(str(error))
            layer.failure = str(error)
        except OSError as error:
            layer.failure = f"the build context can't be laid out: {type(error).__name__}"

    def _context(self, layer: Layer) -> Path:
        context = Path(tempfile.mkdtemp(dir=self.backend.folder, prefix="context-"))
        for name, digest in layer.files.items():
            target = context / name.lstrip("/")
            if not target.resolve().is_relative_to(context.resolve()):
                raise BuildError(f"{name} leaves the build context")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._file(digest), target)
        return context

    async def image_join_streaming(self, stream: Any) -> None:
        """Stream a build's log lines and its end."""
        request = await receive(stream)
        layer = self.layers.get(request.image_id)
        if layer is None or layer.task is None:
            raise MissingError(request.image_id)
        done, _ = await asyncio.wait([layer.task], timeout=request.timeout or 55)
        if layer.logs:
            lines = [
                api_pb2.TaskLogs(data=f"{line}\n", file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT)
                for line in layer.logs
            ]
            await stream.send_message(api_pb2.ImageJoinStreamingResponse(task_logs=lines, entry_id=str(len(lines))))
        if done:
            await stream.send_message(
                api_pb2.ImageJoinStreamingResponse(result=self._result(layer), metadata=self._metadata(), eof=True)
            )


class Blobs:
    """The HTTP address that large files are uploaded to; the address itself is secret."""

    def __init__(self, images: Images) -> None:
        self.images, self.backend = images, images.backend

    def environ(self, url: str) -> dict[str, str]:
        """Tell the images where blobs go."""
        self.images.blob_url = url
        return {}

    def key(self, _request: Request) -> str | None:
        """None: no call has one."""
        return None

    def open_path(self, _path: str) -> bool:
        """Whether a path needs no key."""
        return True

    def failure(self, error: Exception) -> Response:
        """Answer a failure."""
        return json_answer({"error": str(error)}, 404 if isinstance(error, MissingError) else 400)

    def routes(self) -> list[Route]:
        """The one call."""
        return [Route("/{id}", self.put, methods=["PUT"])]

    async def put(self, request: Request) -> Response:
        target = self.images.blobs.get(request.path_params["id"])
        if target is None:
            raise MissingError("blob")
        await save_body(request, target)
        digest = await asyncio.to_thread(lambda: hashlib.md5(target.read_bytes(), usedforsecurity=False).hexdigest())
        return Response(headers={"etag": f'"{digest}"'})
