"""Daytona on loopback: sandboxes from a Dockerfile and an uploaded context; commands and files by its toolbox."""

import asyncio
import json
import secrets
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harbor_nb.errors import BadInputError, BuildError, SandboxError
from harbor_nb.practice_clouds.backend import (
    Backend,
    MissingError,
    QuotaError,
    RateLimitError,
    RefusedBuildError,
    StartError,
)
from harbor_nb.practice_clouds.daytona_s3 import BUCKET, REGION, Storage
from harbor_nb.practice_clouds.daytona_toolbox import Toolbox
from harbor_nb.practice_clouds.files import unpack
from harbor_nb.practice_clouds.http import NotServedError, TooLargeError, UnauthorizedError, json_answer
from harbor_nb.sandbox import Image

_HOLD_SEC = 1.0  # that a new sandbox's answer waits for its start; saves the SDK a poll
_ORGANIZATION = "practice"


class Cloud(Toolbox):
    """Its calls; the paths and bodies are those of `daytona` 0.226."""

    def __init__(self, backend: Backend, storage: Storage, storage_url: str) -> None:
        super().__init__(backend)
        self.storage, self.storage_url, self.url = storage, storage_url, ""
        self.records: dict[
            str, dict[str, Any]
        ] = {}  # what the API tells of each sandbox, also of one that did not start
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def environ(self, url: str) -> dict[str, str]:
        """What points the SDK at `url`."""
        self.url = url
        return {"DAYTONA_API_URL": f"{url}/api", "DAYTONA_API_KEY": self.backend.key, "DAYTONA_TARGET": "us"}

    def key(self, request: Request) -> str | None:
        """The key that a call came with."""
        return request.headers.get("authorization", "").removeprefix("Bearer ") or None

    def open_path(self, path: str) -> bool:
        """Whether a path needs no key: events are refused to all, so that the SDK falls back to asking."""
        return path.startswith("/api/socket.io")

    def failure(self, error: Exception) -> Response:
        """Daytona's own answer to a failure."""
        status, name, message, headers = 500, "Internal Server Error", "Internal server error", {}
        match error:
            case UnauthorizedError():
                status, name, message = 401, "Unauthorized", "Invalid credentials"
            case MissingError():
                status, name, message = 404, "Not Found", f"Sandbox with ID or name {error} not found"
            case FileNotFoundError():
                status, name, message = 404, "Not Found", f"file not found: {error}"
            case NotServedError():
                status, name, message = 404, "Not Found", str(error)
            case RateLimitError():
                status, name, message = 429, "Too Many Requests", "Rate limit exceeded"
                limit = str(self.backend.faults.rate_limit)
                headers = {
                    "X-RateLimit-Limit-sandbox-create": limit, "X-RateLimit-Remaining-sandbox-create": "0",
                    "X-RateLimit-Reset-sandbox-create": "60", "Retry-After-sandbox-create": "60",
                }  # fmt: skip
            case QuotaError():
                status, name = 403, "Forbidden"
                message = f"Total CPU limit exceeded. Maximum allowed: {self.backend.faults.quota}."
            case TooLargeError():
                status, name, message = 413, "Payload Too Large", "request entity too large"
            case BadInputError() | IsADirectoryError() | NotADirectoryError() | PermissionError():
                status, name, message = 400, "Bad Request", str(error)
            case SandboxError():
                message = str(error)
        body = {"statusCode": status, "error": name, "message": message, "timestamp": datetime.now(UTC).isoformat()}
        return json_answer(body, status, headers)

    def routes(self) -> list[Route]:
        """Its calls."""
        sandbox = "/api/sandbox/{id}"
        return [
            *super().routes(),
            Route("/api/socket.io/", self.no_events),
            Route("/api/object-storage/push-access", self.push_access),
            Route("/api/api-keys/current", self.current_key),
            Route("/api/sandbox", self.list_sandboxes, methods=["GET"]),
            Route("/api/sandbox", self.create, methods=["POST"]),
            Route(sandbox, self.get, methods=["GET"]),
            Route(sandbox, self.delete, methods=["DELETE"]),
            Route(f"{sandbox}/stop", self.stop, methods=["POST"]),
            Route(f"{sandbox}/labels", self.label, methods=["PUT"]),
            Route(f"{sandbox}/toolbox-proxy-url", self.toolbox_url, methods=["GET"]),
            Route("/api/snapshots", self.create_snapshot, methods=["POST"]),
            Route("/api/snapshots/{id}", self.get_snapshot, methods=["GET"]),
            Route("/api/snapshots/{id}", self.delete_snapshot, methods=["DELETE"]),
        ]

    async def no_events(self, _request: Request) -> Response:
        return Response(status_code=404)

    async def push_access(self, _request: Request) -> Response:
        store = self.storage
        return json_answer({
            "accessKey": store.access_key, "secret": store.secret, "sessionToken": store.token, "bucket": BUCKET,
            "storageUrl": self.storage_url,
            "organizationId": _ORGANIZATION, "region": REGION,
        })  # fmt: skip

    async def current_key(self, _request: Request) -> Response:
        return json_answer({
            "name": "practice", "value": "practice-***", "createdAt": datetime.now(UTC).isoformat(),
            "userId": "practice", "permissions": ["write:sandboxes", "delete:sandboxes"],
            "lastUsedAt": None, "expiresAt": None,
        })  # fmt: skip

    async def create(self, request: Request) -> Response:
        asked = await request.json()
        snapshot = asked.get("snapshot")
        if snapshot and snapshot not in self.snapshots:
            raise BadInputError(f"Snapshot {snapshot} not found")
        if asked.get("networkAllowList") or asked.get("domainAllowList"):
            raise BadInputError("not served by the practice cloud: an allowlist of hosts")
        self.backend.admit()
        made_id, now = str(uuid.uuid4()), datetime.now(UTC).isoformat()
        record = {
            "id": made_id, "organizationId": _ORGANIZATION, "name": asked.get("name") or made_id, "snapshot": snapshot,
            "user": asked.get("user") or "root", "env": asked.get("env") or {}, "labels": asked.get("labels") or {},
            "public": bool(asked.get("public")), "networkBlockAll": bool(asked.get("networkBlockAll")), "kvm": False,
            "networkAllowList": asked.get("networkAllowList"), "target": asked.get("target") or "us", "gpu": 0,
            "cpu": asked.get("cpu") or 1, "memory": asked.get("memory") or 1, "disk": asked.get("disk") or 3,
            "state": "pending_build" if asked.get("buildInfo") else "creating", "desiredState": "started",
            "autoStopInterval": asked.get("autoStopInterval") or 0, "volumes": [], "createdAt": now, "updatedAt": now,
            "toolboxProxyUrl": f"{self.url}/toolbox",
        }  # fmt: skip
        self.records[made_id] = record
        self.tasks[made_id] = asyncio.create_task(self._bring_up(record, asked))
        await asyncio.wait([self.tasks[made_id]], timeout=_HOLD_SEC)
        return json_answer(self._view(record))

    async def _bring_up(self, record: dict[str, Any], asked: dict[str, Any]) -> None:
        try:
            image = await self._image(asked, record)
            if record["state"] == "destroyed":
                return
            record["state"] = "starting"
            minutes = asked.get("ttlMinutes")
            box = await self.backend.start(
                image, box_id=record["id"], name=record["name"], labels=record["labels"], env=record["env"],
                network=not record["networkBlockAll"], lifetime_sec=60 * minutes if minutes else None,
            )  # fmt: skip
            if record["state"] == "destroyed":
                await self.backend.stop(box)
                return
            record["state"] = "started"
        except (BuildError, RefusedBuildError) as error:
            record["state"], record["errorReason"] = "build_failed", f"Failed to build image: {error}"
        except StartError:
            record["state"], record["errorReason"] = "error", "Failed to start sandbox: no available runners"
        except (SandboxError, OSError) as error:
            record["state"], record["errorReason"] = "error", str(error)

    async def _image(self, asked: dict[str, Any], about: dict[str, Any]) -> Image:
        if asked.get("snapshot"):
            image: Image = self.snapshots[asked["snapshot"]]["image"]
            return image
        info = asked.get("buildInfo")
        if not info:
            return Image()
        about["state"] = "building_snapshot"
        context: Path | None = None
        if info.get("contextHashes"):
            context = self.backend.folder / f"context-{secrets.token_hex(6)}"
            for name in info["contextHashes"]:
                archive = self.storage.objects.get(f"{_ORGANIZATION}/{name}/context.tar")
                if archive is None:
                    raise BuildError(f"context {name} was not uploaded")
                await asyncio.to_thread(unpack, archive, context)
        return await self.backend.build(info["dockerfileContent"], context)

    def _view(self, record: dict[str, Any]) -> dict[str, Any]:
        box = self.backend.boxes.get(record["id"])
        if box is not None and box.ended:
            record["state"] = "destroyed"
        return {key: value for key, value in record.items() if value is not None}

    def _record(self, request: Request) -> dict[str, Any]:
        wanted = request.path_params["id"]
        for record in self.records.values():
            if wanted in (record["id"], record["name"]) and self._view(record)["state"] != "destroyed":
                return record
        raise MissingError(wanted)

    async def get(self, request: Request) -> Response:
        return json_answer(self._view(self._record(request)))

    async def list_sandboxes(self, request: Request) -> Response:
        asked = request.query_params
        labels = json.loads(asked.get("labels") or "{}")
        states = asked.getlist("states")
        views = [self._view(record) for record in self.records.values()]
        views = [
            view for view in views
            if view["state"] != "destroyed" and labels.items() <= view["labels"].items()
            and (not states or view["state"] in states)
        ]  # fmt: skip
        start, limit = int(asked.get("cursor") or 0), max(1, int(asked.get("limit") or 100))
        more = str(start + limit) if start + limit < len(views) else None
        return json_answer({"items": views[start : start + limit], "nextCursor": more})

    async def delete(self, request: Request) -> Response:
        record = self._record(request)
        record["state"], record["desiredState"] = "destroyed", "destroyed"
        box = self.backend.boxes.get(record["id"])
        if box is not None:
            await self.backend.stop(box)
        return json_answer(self._view(record))

    async def stop(self, request: Request) -> Response:
        record = self._record(request)
        record["state"] = "stopped"
        box = self.backend.boxes.get(record["id"])
        if box is not None:
            await self.backend.stop(box)
        return json_answer(self._view(record) | {"state": "stopped"})

    async def label(self, request: Request) -> Response:
        record = self._record(request)
        record["labels"] = (await request.json())["labels"]
        return json_answer({"labels": record["labels"]})

    async def toolbox_url(self, request: Request) -> Response:
        return json_answer({"url": self._record(request)["toolboxProxyUrl"]})

    async def create_snapshot(self, request: Request) -> Response:
        asked, now = await request.json(), datetime.now(UTC).isoformat()
        made = {
            "id": str(uuid.uuid4()), "name": asked["name"], "state": "pending", "general": False, "size": 0, "gpu": 0,
            "cpu": asked.get("cpu") or 1, "mem": asked.get("memory") or 1, "disk": asked.get("disk") or 3,
            "entrypoint": [], "errorReason": None, "createdAt": now, "updatedAt": now, "lastUsedAt": now,
        }  # fmt: skip
        self.snapshots[made["name"]] = made
        try:
            made["image"] = await self._image(asked, made)
            made["state"] = "active"
        except (BuildError, RefusedBuildError) as error:
            made["state"], made["errorReason"] = "build_failed", str(error)
        return json_answer(self._snapshot_view(made))

    @staticmethod
    def _snapshot_view(made: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in made.items() if key != "image"}

    def _snapshot(self, request: Request) -> dict[str, Any]:
        wanted = request.path_params["id"]
        found = next((one for one in self.snapshots.values() if wanted in (one["id"], one["name"])), None)
        if found is None:
            raise MissingError(wanted)
        return found

    async def get_snapshot(self, request: Request) -> Response:
        return json_answer(self._snapshot_view(self._snapshot(request)))

    async def delete_snapshot(self, request: Request) -> Response:
        del self.snapshots[self._snapshot(request)["name"]]
        return Response(status_code=200)
