"""E2B on loopback: templates and sandboxes; commands and files by the daemon in the sandbox (`envd`)."""

import asyncio
import secrets
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harbor_nb.errors import BadInputError, SandboxError
from harbor_nb.practice_clouds.backend import Backend, Box, MissingError, QuotaError, RateLimitError, StartError
from harbor_nb.practice_clouds.e2b_envd import Envd
from harbor_nb.practice_clouds.e2b_templates import Templates
from harbor_nb.practice_clouds.http import NotServedError, TooLargeError, UnauthorizedError, json_answer

_LONGEST_SEC = 24 * 60 * 60
_ENVD_VERSION = "0.6.4"


class Cloud(Templates):
    """Its calls; the paths and bodies are those of `e2b` 2.63."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.envd = Envd(backend)

    def environ(self, url: str) -> dict[str, str]:
        """What points the SDK at `url`."""
        self.url = url
        return {"E2B_API_URL": url, "E2B_SANDBOX_URL": url, "E2B_API_KEY": self.backend.key}

    def key(self, request: Request) -> str | None:
        """The key that a call came with."""
        return request.headers.get("x-api-key")

    def open_path(self, path: str) -> bool:
        """Whether a path needs no key of the account: upload links are secret, envd has its own token."""
        return path.startswith("/upload/") or self.envd.serves(path)

    def failure(self, error: Exception) -> Response:
        """E2B's own answer to a failure."""
        status, message, headers = 500, "Internal server error", {}
        match error:
            case UnauthorizedError():
                status, message = (
                    401,
                    "Invalid API key, please visit the API keys tab at https://e2b.dev/dashboard?tab=keys",
                )
            case MissingError() | NotServedError() | FileNotFoundError():
                status, message = 404, str(error)
            case RateLimitError():
                status, message, headers = 429, "too many sandboxes were asked for", {"retry-after": "1"}
            case QuotaError():
                status = 429
                message = (
                    f"you have reached the maximum number of concurrent E2B sandboxes ({self.backend.faults.quota}). "
                    "If you need more, please take a look at https://e2b.dev/docs/billing or contact us at "
                    "'https://e2b.dev/docs/support'"
                )
            case StartError():
                message = "Failed to place sandbox"
            case TooLargeError():
                status, message = 413, "request entity too large"
            case BadInputError() | IsADirectoryError() | NotADirectoryError() | PermissionError():
                status, message = 400, str(error)
            case SandboxError():
                message = str(error)
        return json_answer({"code": status, "message": message}, status, headers)

    def routes(self) -> list[Route]:
        """Its calls."""
        return [
            *super().routes(),
            *self.envd.routes(),
            Route("/sandboxes", self.create_sandbox, methods=["POST"]),
            Route("/v2/sandboxes", self.create_sandbox, methods=["POST"]),
            Route("/v2/sandboxes", self.list_sandboxes, methods=["GET"]),
            Route("/sandboxes/{id}", self.get_sandbox, methods=["GET"]),
            Route("/sandboxes/{id}", self.kill, methods=["DELETE"]),
            Route("/sandboxes/{id}/timeout", self.set_timeout, methods=["POST"]),
        ]

    async def create_sandbox(self, request: Request) -> Response:
        asked = await request.json()
        template = self.template(asked["templateID"])
        seconds = float(asked.get("timeout") or 15)
        if seconds > _LONGEST_SEC:
            raise BadInputError("Timeout cannot be greater than 24 hours")
        if (asked.get("network") or {}).get("allowOut"):
            raise BadInputError("not served by the practice cloud: an allowlist of hosts")
        if template["id"] not in self.images and template["id"] in self.tasks:
            await asyncio.wait([self.tasks[template["id"]]])
        if template["id"] not in self.images:
            name, _, tag = asked["templateID"].partition(":")
            raise MissingError(f"tag '{tag or 'default'}' does not exist for template '{name}'")
        self.backend.admit()
        box = await self.backend.start(
            self.images[template["id"]], box_id=f"i{secrets.token_hex(10)}", name=template["name"],
            lifetime_sec=seconds, labels=asked.get("metadata"), env=asked.get("envVars"),
            network=asked.get("allow_internet_access", True), template=template, token=secrets.token_urlsafe(24),
        )  # fmt: skip
        made = {
            "templateID": template["id"], "sandboxID": box.id, "clientID": "practice", "envdVersion": _ENVD_VERSION,
            "envdAccessToken": box.values["token"], "domain": None, "alias": template["name"],
        }  # fmt: skip
        return json_answer(made, 201)

    @staticmethod
    def _view(box: Box) -> dict[str, Any]:
        template = box.values["template"]
        return {
            "templateID": template["id"], "alias": template["name"], "sandboxID": box.id, "clientID": "practice",
            "startedAt": box.created_at.isoformat(), "endAt": (box.expires_at or box.created_at).isoformat(),
            "cpuCount": template["cpu"], "memoryMB": template["memory"], "diskSizeMB": 1024, "state": "running",
            "envdVersion": _ENVD_VERSION, "metadata": box.labels,
        }  # fmt: skip

    async def list_sandboxes(self, request: Request) -> Response:
        asked = request.query_params
        wanted = dict(parse_qsl(asked.get("metadata") or ""))
        states = asked.get("state")
        boxes = [box for box in self.backend.live() if wanted.items() <= box.labels.items()]
        if states and "running" not in states:
            boxes = []
        start, limit = int(asked.get("nextToken") or 0), max(1, int(asked.get("limit") or 100))
        more = {"x-next-token": str(start + limit)} if start + limit < len(boxes) else {}
        return json_answer([self._view(box) for box in boxes[start : start + limit]], headers=more)

    def _box(self, request: Request) -> Box:
        wanted = request.path_params["id"]
        try:
            return self.backend.box(wanted)
        except MissingError:
            raise MissingError(f"sandbox \"{wanted}\" doesn't exist or you don't have access to it") from None

    async def get_sandbox(self, request: Request) -> Response:
        box = self._box(request)
        return json_answer(self._view(box) | {"envdAccessToken": box.values["token"], "domain": None})

    async def kill(self, request: Request) -> Response:
        await self.backend.stop(self._box(request))
        return Response(status_code=204)

    async def set_timeout(self, request: Request) -> Response:
        box, seconds = self._box(request), float((await request.json())["timeout"])
        if seconds > _LONGEST_SEC:
            raise BadInputError("Timeout cannot be greater than 24 hours")
        if self.backend.faults.expire_after is None:  # else it ends when the lesson says
            self.backend.expire(box, seconds)
        return Response(status_code=204)
