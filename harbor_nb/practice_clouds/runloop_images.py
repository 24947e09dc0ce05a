"""Runloop's objects, blueprints and network policies: what a devbox is made from."""

import asyncio
import secrets
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harbor_nb.errors import BadInputError, BuildError
from harbor_nb.practice_clouds.backend import Backend, MissingError, RefusedBuildError
from harbor_nb.practice_clouds.files import unpack
from harbor_nb.practice_clouds.http import json_answer, save_body
from harbor_nb.sandbox import Image


def now_ms() -> int:
    """Give the time as Runloop counts it."""
    return int(time.time() * 1000)


def page(name: str, things: list[dict[str, Any]], request: Request) -> Response:
    """Answer with a page of a list."""
    limit = max(1, int(request.query_params.get("limit", "20")))
    after = request.query_params.get("starting_after")
    ids = [thing["id"] for thing in things]
    start = ids.index(after) + 1 if after in ids else 0
    more = start + limit < len(things)
    return json_answer({name: things[start : start + limit], "has_more": more, "total_count": len(things)})


class Images:
    """The calls about what a devbox is made from."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.objects: dict[str, dict[str, Any]] = {}
        self.blueprints: dict[str, dict[str, Any]] = {}
        self.images: dict[str, Image] = {}
        self.build_logs: dict[str, list[str]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.builds: set[asyncio.Task[None]] = set()
        self.url = ""

    def routes(self) -> list[Route]:
        """The calls."""
        return [
            Route("/v1/objects", self.create_object, methods=["POST"]),
            Route("/upload/{token}", self.upload_object, methods=["PUT"]),
            Route("/v1/objects/{id}/complete", self.complete_object, methods=["POST"]),
            Route("/v1/blueprints", self.list_blueprints),
            Route("/v1/blueprints", self.create_blueprint, methods=["POST"]),
            Route("/v1/blueprints/list_public", self.list_public),
            Route("/v1/blueprints/{id}", self.get_blueprint),
            Route("/v1/blueprints/{id}/logs", self.blueprint_logs),
            Route("/v1/network-policies", self.list_policies),
            Route("/v1/network-policies", self.create_policy, methods=["POST"]),
        ]

    async def create_object(self, request: Request) -> Response:
        asked = await request.json()
        token = secrets.token_urlsafe(16)
        made = {
            "id": f"obj_{secrets.token_hex(8)}", "content_type": asked["content_type"], "name": asked["name"],
            "state": "UPLOADING", "create_time_ms": now_ms(), "upload_url": f"{self.url}/upload/{token}",
        }  # fmt: skip
        self.objects[made["id"]] = made
        self.objects[token] = made
        return json_answer(made)

    async def upload_object(self, request: Request) -> Response:
        made = self.objects.get(request.path_params["token"])
        if made is None or request.path_params["token"] == made["id"]:
            raise MissingError("upload")
        made["size_bytes"] = await save_body(request, self.backend.folder / made["id"])
        return Response(status_code=200)

    async def complete_object(self, request: Request) -> Response:
        made = self._find(self.objects, request)
        made["state"] = "READ_ONLY"
        return json_answer({key: value for key, value in made.items() if key != "upload_url"})

    @staticmethod
    def _find(things: dict[str, dict[str, Any]], request: Request) -> dict[str, Any]:
        found = things.get(request.path_params["id"])
        if found is None:
            raise MissingError(request.path_params["id"])
        return found

    async def list_blueprints(self, request: Request) -> Response:
        name = request.query_params.get("name")
        return page("blueprints", [one for one in self.blueprints.values() if name in (None, one["name"])], request)

    async def list_public(self, request: Request) -> Response:
        return page("blueprints", [], request)

    async def create_blueprint(self, request: Request) -> Response:
        asked = await request.json()
        made = {
            "id": f"bpt_{secrets.token_hex(8)}", "create_time_ms": now_ms(), "name": asked["name"], "parameters": asked,
            "state": "created", "status": "building",
        }  # fmt: skip
        context = None
        if asked.get("build_context"):
            archive = self.backend.folder / asked["build_context"]["object_id"]
            if asked["build_context"]["object_id"] not in self.objects or not archive.exists():
                raise BadInputError("build_context names no object that was uploaded")
            context = self.backend.folder / f"{made['id']}-context"
            await asyncio.to_thread(unpack, archive, context)
        self.blueprints[made["id"]] = made
        task = asyncio.create_task(self._build(made, asked["dockerfile"], context))
        self.builds.add(task)
        task.add_done_callback(self.builds.discard)
        # A build that is over at once saves the client's first poll of two seconds.
        await asyncio.wait([task], timeout=1.5)
        return json_answer(made)

    async def _build(self, made: dict[str, Any], dockerfile: str, context: Any) -> None:
        lines = self.build_logs.setdefault(made["id"], [])
        try:
            self.images[made["id"]] = await self.backend.build(dockerfile, context, say=lines.append)
            made["status"] = "build_complete"
        except (BuildError, RefusedBuildError) as error:
            lines.append(str(error))
            made["status"], made["failure_reason"] = "failed", "build_failed"
        made["build_finish_time_ms"] = now_ms()

    async def get_blueprint(self, request: Request) -> Response:
        return json_answer(self._find(self.blueprints, request))

    async def blueprint_logs(self, request: Request) -> Response:
        made = self._find(self.blueprints, request)
        logs = [{"level": "info", "message": line, "timestamp_ms": now_ms()} for line in self.build_logs[made["id"]]]
        return json_answer({"blueprint_id": made["id"], "logs": logs})

    async def list_policies(self, request: Request) -> Response:
        name = request.query_params.get("name")
        return page("network_policies", [one for one in self.policies.values() if name in (None, one["name"])], request)

    async def create_policy(self, request: Request) -> Response:
        asked = await request.json()
        if asked.get("allowed_hostnames"):
            raise BadInputError("not served by the practice cloud: an allowlist of hosts")
        fields = (
            "allow_all",
            "allow_agent_gateway",
            "allow_devbox_to_devbox",
            "allow_mcp_gateway",
            "allowed_hostnames",
        )
        made = {
            "id": f"np_{secrets.token_hex(8)}", "name": asked["name"], "description": asked.get("description"),
            "create_time_ms": now_ms(), "update_time_ms": now_ms(), "egress": {key: asked.get(key) for key in fields},
        }  # fmt: skip
        self.policies[made["id"]] = made
        return json_answer(made)
