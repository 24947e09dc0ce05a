"""What every practice cloud is made of: images by content, sandboxes by id, lifetimes, quotas and seeded faults."""

import asyncio
import contextlib
import logging
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harbor_nb._redaction import redact
from harbor_nb.practice_clouds.description import Faults
from harbor_nb.sandbox import Image, Sandbox, build_image

log = logging.getLogger("harbor_nb.practice")


class MissingError(LookupError):
    """No sandbox of that id runs."""


class RateLimitError(Exception):
    """More sandboxes were asked for in a minute than may be."""


class QuotaError(Exception):
    """As many sandboxes run as may run at once."""


class StartError(Exception):
    """The sandbox did not start."""


class RefusedBuildError(Exception):
    """No image can be built."""


@dataclass
class Box:
    """A sandbox as a vendor sees it."""

    id: str
    name: str
    labels: dict[str, str]
    image: Image
    sandbox: Sandbox
    created_at: datetime
    expires_at: datetime | None = None
    values: dict[str, Any] = field(default_factory=dict)  # what the vendor was told about it
    tasks: set["asyncio.Task[Any]"] = field(default_factory=set)  # running commands
    timer: asyncio.TimerHandle | None = None  # ends it by itself
    ended: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # set with `ended`
    ended_at: datetime | None = None

    def spawn(self, work: Any) -> "asyncio.Task[Any]":
        """Run a coroutine that ends with the sandbox."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


class Backend:
    """The sandboxes of one practice cloud; ends them all at `close`."""

    def __init__(self, vendor: str, faults: Faults, seed: int = 0) -> None:
        self.vendor, self.faults = vendor, faults
        self.key = f"practice-{secrets.token_urlsafe(24)}"
        self.boxes: dict[str, Box] = {}
        self.folder = Path(tempfile.mkdtemp(prefix=f"harbor_nb-practice-{vendor}-"))
        self.foreign_keys = 0  # calls that came with another key
        self._random = {name: random.Random(f"{seed}:{vendor}:{name}") for name in ("start", "drop")}  # noqa: S311 - a seeded lesson, no secret
        self.closed = False
        self._asked: list[float] = []
        self._starting = 0
        self._ending: set[asyncio.Task[None]] = set()

    def knows(self, key: str | None) -> bool:
        """Tell whether the key is this run's and is not refused on request."""
        right = key is not None and secrets.compare_digest(key.encode(), self.key.encode())
        self.foreign_keys += not right
        return right and not self.faults.wrong_key

    def drops(self) -> bool:
        """Draw whether to cut this call's connection."""
        return self.faults.drop_connection > 0 and self._random["drop"].random() < self.faults.drop_connection

    def admit(self) -> None:
        """Count one sandbox asked for.

        Raises:
            RateLimitError: too many in a minute.
            QuotaError: too many run.
        """
        now = time.monotonic()
        self._asked = [moment for moment in self._asked if now - moment < 60]
        if self.faults.rate_limit is not None and len(self._asked) >= self.faults.rate_limit:
            raise RateLimitError
        if self.faults.quota is not None and len(self.live()) + self._starting >= self.faults.quota:
            raise QuotaError
        self._asked.append(now)

    async def build(
        self,
        dockerfile: str,
        context: Path | None = None,
        *,
        force: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> Image:
        """Build an image, or take it from the sandbox room's cache.

        Raises:
            BuildError: an instruction failed.
            RefusedBuildError: the lesson wants it so.
        """
        if self.faults.build_failure:
            raise RefusedBuildError(
                'process "/bin/sh -c apt-get install -y practice" did not complete successfully: exit code: 100'
            )
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        return await build_image(context or empty, dockerfile, force=force, on_line=say)

    async def start(
        self, image: Image, *, box_id: str, name: str = "", labels: dict[str, str] | None = None, network: bool = True,
        env: dict[str, str] | None = None, lifetime_sec: float | None = None, **values: Any,
    ) -> Box:  # fmt: skip
        """Start a sandbox that was admitted.

        Raises:
            StartError: the lesson wants it so.
            SandboxError: it can't be started here.
        """
        self._starting += 1
        try:
            await asyncio.sleep(self.faults.start_delay)
            if self.faults.fail_start and self._random["start"].random() < self.faults.fail_start:
                raise StartError
            sandbox = await Sandbox.start(image, name=f"{self.vendor}-{box_id}", network=network, env=env)
        finally:
            self._starting -= 1
        box = Box(box_id, name, dict(labels or {}), image, sandbox, datetime.now(UTC), values=values)
        if self.faults.expire_after is not None:
            lifetime_sec = min(lifetime_sec or self.faults.expire_after, self.faults.expire_after)
        if lifetime_sec is not None:
            self.expire(box, lifetime_sec)
        self.boxes[box_id] = box
        log.info("practice %s: sandbox %s started %s", self.vendor, box_id, redact(name))
        return box

    def expire(self, box: Box, seconds: float) -> None:
        """End the sandbox by itself after some seconds from now, and not when it was to end before."""
        if box.timer is not None:
            box.timer.cancel()
        box.expires_at = datetime.now(UTC) + timedelta(seconds=seconds)

        def end() -> None:
            log.info("practice %s: sandbox %s reached its lifetime", self.vendor, box.id)
            task = asyncio.get_running_loop().create_task(self.stop(box))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

        box.timer = asyncio.get_running_loop().call_later(seconds, end)

    def live(self) -> list[Box]:
        """Give the sandboxes that run, oldest first."""
        return [box for box in self.boxes.values() if not box.ended]

    def box(self, box_id: str) -> Box:
        """Find a running sandbox.

        Raises:
            MissingError: none of that id runs.
        """
        box = self.boxes.get(box_id)
        if box is None or box.ended:
            raise MissingError(box_id)
        return box

    async def stop(self, box: Box) -> None:
        """End a sandbox with all its processes and files; a second time does nothing."""
        if box.ended:
            return
        box.ended, box.ended_at = True, datetime.now(UTC)
        box.gone.set()
        if box.timer is not None:
            box.timer.cancel()
        for task in list(box.tasks):
            task.cancel()
        await asyncio.gather(*box.tasks, return_exceptions=True)
        await box.sandbox.stop()
        log.info("practice %s: sandbox %s ended", self.vendor, box.id)

    async def close(self) -> None:
        """End every sandbox and remove what was uploaded."""
        if self.closed:
            return
        self.closed = True
        await asyncio.gather(*(self.stop(box) for box in self.live()), *self._ending, return_exceptions=True)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(shutil.rmtree, self.folder)
        told = "practice %s: closed; %d sandboxes ran, %d calls came with another key"
        log.info(told, self.vendor, len(self.boxes), self.foreign_keys)
