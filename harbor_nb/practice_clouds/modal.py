"""Modal on loopback: gRPC by the SDK's own stubs; apps, images, sandboxes, and their commands by the router."""

import asyncio
import base64
import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from grpclib.const import Status
from grpclib.events import RecvRequest, listen
from grpclib.exceptions import GRPCError
from grpclib.server import Server
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientBase
from modal_proto.task_command_router_grpc import TaskCommandRouterBase

from harbor_nb.errors import BadInputError
from harbor_nb.practice_clouds.backend import Backend, Box, MissingError
from harbor_nb.practice_clouds.modal_images import BUILDER, Images
from harbor_nb.practice_clouds.modal_router import Router
from harbor_nb.practice_clouds.modal_rpc import Gate, service, status, unary

_PAGE = 100
_RESULT = api_pb2.GenericResult


def _jwt() -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return ".".join([part({"alg": "none"}), part({"exp": int(time.time()) + 7 * 86_400}), secrets.token_urlsafe(24)])


class Cloud:
    """Its calls; the messages are those of `modal` 1.6."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.images = Images(backend)
        self.router = Router(backend, self.images)
        self.token_id = f"ak-practice{secrets.token_hex(6)}"
        self.jwt = _jwt()
        self.apps: dict[str, str] = {}  # id by name
        self.results: dict[str, Any] = {}  # how a sandbox ended
        self.url = ""

    def environ(self, url: str) -> dict[str, str]:
        """What points the SDK at `url`."""
        self.url = url
        return {
            "MODAL_SERVER_URL": url, "MODAL_TOKEN_ID": self.token_id, "MODAL_TOKEN_SECRET": self.backend.key,
            "MODAL_CONFIG_PATH": str(self.backend.folder / "no-such.toml"),
        }  # fmt: skip

    def server(self) -> Server:
        """Make the gRPC server."""
        images, router = self.images, self.router
        control: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ClientHello": self.hello, "TokenInfoGet": self.token_info, "AuthTokenGet": self.auth_token,
            "AppGetOrCreate": self.app, "EnvironmentGetOrCreate": self.environment,
            "MountBatchedCheckExistence": images.mount_batched_check_existence, "MountPutFile": images.mount_put_file,
            "MountGetOrCreate": images.mount_get_or_create, "BlobCreate": images.blob_create,
            "SecretGetOrCreate": images.secret_get_or_create, "ImageGetOrCreate": images.image_get_or_create,
            "SandboxCreateV2": self.create, "SandboxWaitV2": self.wait, "SandboxTerminateV2": self.terminate,
            "SandboxListV2": self.list_sandboxes, "SandboxTagsGetV2": self.tags, "SandboxGetTaskIdV2": self.task_id,
            "SandboxGetCommandRouterAccess": self.access, "SandboxGetFromNameV2": self.from_name,
        }  # fmt: skip
        # Those that the list finds are asked for by both generations of the calls.
        control |= {"SandboxWait": self.wait, "SandboxTerminate": self.terminate, "SandboxTagsGet": self.tags}
        control |= {"SandboxList": self.list_sandboxes, "SandboxGetTaskId": self.task_id}
        commands: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "TaskExecStart": router.start, "TaskExecWait": router.wait, "TaskExecPoll": router.poll,
            "TaskExecStdinWrite": router.write_once, "TaskExecStdinStatus": router.stdin_status,
        }  # fmt: skip
        one = unary(self.backend)
        streams = {"ImageJoinStreaming": self._streaming(images.image_join_streaming)}
        command_streams = {
            "TaskExecStdioRead": self._streaming(router.read), "TaskExecStdinWriteStream": self._streaming(router.write)
        }  # fmt: skip
        served = Server([
            service(ModalClientBase, {name: one(call) for name, call in control.items()} | streams),
            service(TaskCommandRouterBase, {name: one(call) for name, call in commands.items()} | command_streams),
        ])  # fmt: skip
        listen(served, RecvRequest, Gate(self.backend, self.token_id, self.jwt))
        return served

    def _streaming(self, call: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def handler(stream: Any) -> None:
            try:
                await call(stream)
            except (LookupError, BadInputError, OSError) as error:
                raise status(error, self.backend) from None

        return handler

    async def hello(self, _request: Any) -> Any:
        return api_pb2.ClientHelloResponse(image_builder_version=BUILDER)

    async def token_info(self, _request: Any) -> Any:
        return api_pb2.TokenInfoGetResponse(
            token_id=self.token_id, workspace_id="ws-practice", workspace_name="practice"
        )

    async def auth_token(self, _request: Any) -> Any:
        return api_pb2.AuthTokenGetResponse(token=self.jwt)

    async def app(self, request: Any) -> Any:
        if request.app_name not in self.apps:
            if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise MissingError(f"App '{request.app_name}'")
            self.apps[request.app_name] = f"ap-{secrets.token_hex(11)}"
        return api_pb2.AppGetOrCreateResponse(app_id=self.apps[request.app_name])

    async def environment(self, request: Any) -> Any:
        settings = api_pb2.EnvironmentSettings(image_builder_version=BUILDER)
        name = request.deployment_name or "main"
        metadata = api_pb2.EnvironmentMetadata(name=name, settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-practice", metadata=metadata)

    async def create(self, request: Any) -> Any:
        asked = request.definition
        layer = self.images.layers.get(asked.image_id)
        if layer is None:
            raise MissingError(f"Image {asked.image_id}")
        if layer.task is not None:
            await asyncio.wait([layer.task])
        if layer.image is None:
            raise GRPCError(Status.FAILED_PRECONDITION, f"Image {layer.id} was not built: {layer.failure}")
        if asked.name and any(box.name == asked.name for box in self.backend.live()):
            raise GRPCError(Status.ALREADY_EXISTS, f"Sandbox with name '{asked.name}' already exists")
        access = asked.network_access.network_access_type
        if access == api_pb2.NetworkAccess.ALLOWLIST:
            raise BadInputError("not served by the practice cloud: an allowlist of hosts")
        self.backend.admit()
        env = dict(asked.environment_variables.contents) | dict(request.ephemeral_secrets.contents)
        env |= self.images.variables(request.secret_sources)
        for secret in asked.secret_ids:
            env |= self.images.secrets.get(secret, {})
        blocked = asked.block_network or access == api_pb2.NetworkAccess.BLOCKED
        box = await self.backend.start(
            layer.image, box_id=f"sb-{secrets.token_hex(11)}", name=asked.name, network=not blocked, env=env,
            labels={tag.tag_name: tag.tag_value for tag in request.tags}, lifetime_sec=asked.timeout_secs or 300,
            task_id=f"ta-{secrets.token_hex(11)}V", app_id=request.app_id, image_id=asked.image_id,
        )  # fmt: skip
        if asked.entrypoint_args:
            box.spawn(self._entrypoint(box, list(asked.entrypoint_args), asked.workdir or None))
        reach = api_pb2.CommandRouterAccess(jwt=self.jwt, url=self.url)
        return api_pb2.SandboxCreateV2Response(
            sandbox_id=box.id, task_id=box.values["task_id"], command_router_access=reach, metadata=self._metadata(box)
        )

    async def _entrypoint(self, box: Box, words: list[str], cwd: str | None) -> None:
        done = await box.sandbox.exec(words, cwd=cwd)
        good = done.return_code == 0
        state = _RESULT.GENERIC_STATUS_SUCCESS if good else _RESULT.GENERIC_STATUS_FAILURE
        self.results[box.id] = _RESULT(status=state, exitcode=done.return_code)
        # Not by this task itself, which the sandbox would wait for.
        self._ending = asyncio.get_running_loop().create_task(self.backend.stop(box))

    def _metadata(self, box: Box) -> Any:
        return api_pb2.SandboxHandleMetadata(app_id=box.values["app_id"], result=self._result(box))

    def _result(self, box: Box) -> Any:
        if not box.ended:
            return _RESULT()
        return self.results.get(box.id) or _RESULT(status=_RESULT.GENERIC_STATUS_TIMEOUT, exitcode=124)

    def _box(self, request: Any) -> Box:
        found = self.backend.boxes.get(request.sandbox_id)
        if found is None:
            raise MissingError(f"Sandbox {request.sandbox_id}")
        return found

    async def wait(self, request: Any) -> Any:
        box = self._box(request)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(box.gone.wait(), request.timeout)
        return api_pb2.SandboxWaitResponse(result=self._result(box), metadata=self._metadata(box))

    async def terminate(self, request: Any) -> Any:
        box = self._box(request)
        before = self._result(box)
        if not box.ended:
            self.results[box.id] = _RESULT(status=_RESULT.GENERIC_STATUS_TERMINATED, exitcode=137)
            await self.backend.stop(box)
        return api_pb2.SandboxTerminateResponse(existing_result=before)

    async def list_sandboxes(self, request: Any) -> Any:
        wanted = {tag.tag_name: tag.tag_value for tag in request.tags}
        before = request.before_timestamp or float("inf")
        found = []
        for box in reversed(self.backend.boxes.values()):
            began = box.created_at.timestamp()
            if (box.ended and not request.include_finished) or began >= before:
                continue
            if (not request.app_id or box.values["app_id"] == request.app_id) and wanted.items() <= box.labels.items():
                task = api_pb2.TaskInfo(
                    id=box.values["task_id"], started_at=began, sandbox_id=box.id, result=self._result(box)
                )
                found.append(
                    api_pb2.SandboxInfo(
                        id=box.id, created_at=began, task_info=task, app_id=box.values["app_id"], name=box.name,
                        image_id=box.values["image_id"], tags=self._tags(box), metadata=self._metadata(box),
                    )
                )  # fmt: skip
        return api_pb2.SandboxListResponse(sandboxes=found[:_PAGE])

    @staticmethod
    def _tags(box: Box) -> list[Any]:
        return [api_pb2.SandboxTag(tag_name=name, tag_value=value) for name, value in box.labels.items()]

    async def tags(self, request: Any) -> Any:
        return api_pb2.SandboxTagsGetResponse(tags=self._tags(self._box(request)))

    async def task_id(self, request: Any) -> Any:
        box = self._box(request)
        result = self._result(box) if box.ended else None
        return api_pb2.SandboxGetTaskIdResponse(task_id=box.values["task_id"], task_result=result)

    async def access(self, request: Any) -> Any:
        self._box(request)
        return api_pb2.SandboxGetCommandRouterAccessResponse(jwt=self.jwt, url=self.url)

    async def from_name(self, request: Any) -> Any:
        found = next((box for box in self.backend.live() if box.name == request.sandbox_name), None)
        if found is None:
            raise MissingError(f"Sandbox '{request.sandbox_name}'")
        return api_pb2.SandboxGetFromNameResponse(sandbox_id=found.id, metadata=self._metadata(found))
