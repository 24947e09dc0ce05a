"""E2B's templates: steps that the SDK parsed from a Dockerfile, and archives of what it copies."""

import asyncio
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harbor_nb.errors import BadInputError, BuildError
from harbor_nb.practice_clouds.backend import Backend, MissingError, RefusedBuildError
from harbor_nb.practice_clouds.files import unpack
from harbor_nb.practice_clouds.http import json_answer, save_body
from harbor_nb.sandbox import Image

# What E2B puts into every template: the account that its steps end with.
_ACCOUNT = "RUN id -u user >/dev/null 2>&1 || useradd -m -s /bin/bash user"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _line(step: dict[str, Any]) -> list[str]:
    kind, args = step["type"], step["args"]
    match kind:
        case "WORKDIR" | "USER":
            return [f"{kind} {args[0]}"]
        case "ENV" | "ARG":
            pairs = zip(args[::2], args[1::2], strict=False)
            return [f"ENV {name}={_quoted(value)}" for name, value in pairs]
        case "RUN":
            run = [f"RUN {args[0]}"]
            return [f"USER {args[1]}", *run] if len(args) > 1 and args[1] else run
        case "COPY":
            source, target, user, mode = [*args, "", ""][:4]
            flags = [f"--chown={user}"] if user else []
            flags += [f"--chmod={mode}"] if mode else []
            return [" ".join(["COPY", *flags, source, target])]
    raise BadInputError(f"not served by the practice cloud: a template step {kind}")


class Templates:
    """The calls about templates."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.templates: dict[str, dict[str, Any]] = {}  # by id
        self.images: dict[str, Image] = {}
        self.uploads: dict[str, Path] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}  # builds by template
        self.url = ""

    def routes(self) -> list[Route]:
        """The calls."""
        return [
            Route("/templates", self.list_templates, methods=["GET"]),
            Route("/templates/aliases/{alias}", self.alias, methods=["GET"]),
            Route("/v3/templates", self.create, methods=["POST"]),
            Route("/templates/{id}", self.delete_template, methods=["DELETE"]),
            Route("/templates/{id}/tags", self.tags, methods=["GET"]),
            Route("/templates/{id}/files/{hash}", self.file_link, methods=["GET"]),
            Route("/upload/{token}", self.upload, methods=["PUT"]),
            Route("/v2/templates/{id}/builds/{bid}", self.build, methods=["POST"]),
            Route("/templates/{id}/builds/{bid}/status", self.status, methods=["GET"]),
        ]

    def template(self, wanted: str) -> dict[str, Any]:
        """Find a template by its id or name."""
        name = wanted.split(":", maxsplit=1)[0]
        found = self.templates.get(name) or next((one for one in self.templates.values() if one["name"] == name), None)
        if found is None:
            raise MissingError(f"template '{wanted}' not found")
        return found

    async def list_templates(self, _request: Request) -> Response:
        return json_answer([])

    async def alias(self, request: Request) -> Response:
        found = self.template(request.path_params["alias"])
        if found["id"] not in self.images:
            raise MissingError(f"template '{found['name']}' is not built")
        return json_answer({"templateID": found["id"], "public": False})

    async def create(self, request: Request) -> Response:
        asked = await request.json()
        name, _, tag = asked["name"].partition(":")
        made = next((one for one in self.templates.values() if one["name"] == name), None)
        if made is None:
            made = {"id": f"tpl{secrets.token_hex(8)}", "name": name, "builds": {}, "tags": {}}
            self.templates[made["id"]] = made
        made |= {"cpu": asked.get("cpuCount") or 2, "memory": asked.get("memoryMB") or 1024}
        build = secrets.token_hex(16)
        made["builds"][build] = {"status": "waiting", "entries": []}
        made["tags"][tag or "default"] = {"buildID": build, "createdAt": datetime.now(UTC).isoformat()}
        return json_answer(
            {
                "templateID": made["id"],
                "buildID": build,
                "public": False,
                "names": [name],
                "tags": [],
                "aliases": [name],
            },
            202,
        )

    async def delete_template(self, request: Request) -> Response:
        self.template(request.path_params["id"])
        del self.templates[request.path_params["id"]]
        return Response(status_code=204)

    async def tags(self, request: Request) -> Response:
        found = self.template(request.path_params["id"])
        return json_answer([{"tag": tag, **build} for tag, build in found["tags"].items()])

    def _archive(self, template: str, digest: str) -> Path:
        return self.backend.folder / f"{template}-{''.join(letter for letter in digest if letter.isalnum())}.tar.gz"

    async def file_link(self, request: Request) -> Response:
        template = self.template(request.path_params["id"])["id"]
        archive = self._archive(template, request.path_params["hash"])
        token = secrets.token_urlsafe(16)
        self.uploads[token] = archive
        return json_answer({"present": archive.exists(), "url": f"{self.url}/upload/{token}"}, 201)

    async def upload(self, request: Request) -> Response:
        target = self.uploads.pop(request.path_params["token"], None)
        if target is None:
            raise MissingError("upload")
        partial = target.with_suffix(f".{secrets.token_hex(4)}")
        await save_body(request, partial)
        partial.replace(target)
        return Response(status_code=200)

    def _build_of(self, request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
        template = self.template(request.path_params["id"])
        if request.path_params["bid"] not in template["builds"]:
            raise MissingError(f"build '{request.path_params['bid']}' not found")
        return template, template["builds"][request.path_params["bid"]]

    async def build(self, request: Request) -> Response:
        template, build = self._build_of(request)
        asked = await request.json()
        build["status"] = "building"
        self.tasks[template["id"]] = asyncio.create_task(self._build(template, build, asked))
        return Response(status_code=202)

    async def _build(self, template: dict[str, Any], build: dict[str, Any], asked: dict[str, Any]) -> None:
        def say(line: str, level: str = "info") -> None:
            build["entries"].append({"timestamp": datetime.now(UTC).isoformat(), "level": level, "message": line})

        try:
            lines, context = await asyncio.to_thread(self._dockerfile, template["id"], asked)
            self.images[template["id"]] = await self.backend.build(
                "\n".join(lines), context, force=bool(asked.get("force")), say=say
            )
            build["status"] = "ready"
        except (BuildError, RefusedBuildError, BadInputError) as error:
            say(str(error), "error")
            build["status"], build["reason"] = "error", {"message": str(error), "step": "build"}

    def _dockerfile(self, template: str, asked: dict[str, Any]) -> tuple[list[str], Path]:
        context = self.backend.folder / f"{template}-{secrets.token_hex(4)}"
        context.mkdir()
        lines = [f"FROM {asked.get('fromImage') or 'e2bdev/base'}", _ACCOUNT]
        for step in asked.get("steps") or []:
            if step.get("filesHash"):
                archive = self._archive(template, step["filesHash"])
                if not archive.exists():
                    raise BuildError(f"COPY {' '.join(step['args'][:2])}: its files were not uploaded")
                unpack(archive, context)
            lines += _line(step)
        return lines, context

    async def status(self, request: Request) -> Response:
        template, build = self._build_of(request)
        offset = int(request.query_params.get("logsOffset") or 0)
        told = {
            "templateID": template["id"], "buildID": request.path_params["bid"], "status": build["status"], "logs": [],
            "logEntries": build["entries"][offset : offset + 100],
        }  # fmt: skip
        return json_answer(told | ({"reason": build["reason"]} if "reason" in build else {}))
