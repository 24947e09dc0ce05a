"""One bad trial does not sink the others: what fails outside of a trial's own run becomes that trial's result."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, override
from unittest.mock import patch  # sets and, whatever happens, sets back

from harbor.agents.factory import AgentFactory
from harbor.agents.nop import NopAgent
from harbor.environments.factory import EnvironmentFactory
from harbor.models.job.lock import TrialLock
from harbor.models.task.task import Task
from harbor.models.trial.config import TrialConfig
from harbor.models.trial.result import ExceptionInfo, TrialResult
from harbor.trial.hooks import TrialEvent, TrialHookEvent
from harbor.trial.queue import TrialQueue
from harbor.utils.env import resolve_env_vars

from harbor_nb._redaction import redact

_refused: dict[str, BaseException] = {}  # agents whose preflight failed, by their config


class IsolatingQueue(TrialQueue):
    """Harbor's queue, where a trial that can't even be made is one failed row."""

    @override
    def submit(self, trial_config: TrialConfig) -> Coroutine[Any, Any, TrialResult]:
        return self._contain(trial_config, super().submit(trial_config))

    async def _contain(self, config: TrialConfig, work: Coroutine[Any, Any, TrialResult]) -> TrialResult:
        try:
            if refused := _refused.get(config.agent.model_dump_json()):
                work.close()
                raise refused
            return await work
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit too: it would end the loop and every sibling
            return await self._failed(config, error)

    async def _failed(self, config: TrialConfig, error: BaseException) -> TrialResult:
        folder, at, task = config.trials_dir / config.trial_name, datetime.now(UTC), config.task
        folder.mkdir(parents=True, exist_ok=True)
        info = ExceptionInfo.from_exception(error)
        info.exception_message, info.exception_traceback = redact(str(error)), redact(info.exception_traceback)
        name, checksum, lock = str(task.name or Path(task.path or "").name), "", TrialLock.model_construct()
        with contextlib.suppress(Exception):  # the task itself may be what is broken
            made = Task(task.get_local_path(), disable_verification=config.verifier.disable)
            name, checksum = made.name, made.checksum
            lock = TrialLock.model_validate_json((folder / "lock.json").read_text())
        who = {"name": config.agent.name or config.agent.import_path or "oracle", "version": "unknown"}
        agent = NopAgent(folder, model_name=config.agent.model_name).to_agent_info().model_copy(update=who)
        result = TrialResult(
            trial_name=config.trial_name, task_name=name, task_id=task.get_task_id(), source=task.source, config=config,
            trial_uri=folder.resolve().as_uri(), task_checksum=checksum, agent_info=agent, exception_info=info,
            started_at=at, finished_at=at,
        )  # fmt: skip
        (folder / "config.json").write_text(config.model_dump_json(indent=4, exclude_defaults=True))
        (folder / "exception.txt").write_text(info.exception_traceback)
        (folder / "result.json").write_text(result.model_dump_json(indent=4))
        event = TrialHookEvent(event=TrialEvent.END, task_name=name, config=config, result=result, lock=lock)
        for hook in self._hooks[TrialEvent.END]:
            await hook(event)
        return result


def isolate(job: Any) -> bool:
    """Give Harbor's job our queue, with the hooks it has; False where Harbor looks different inside."""
    stock = getattr(job, "_trial_queue", None)
    if type(stock) is not TrialQueue or not hasattr(stock, "_hooks"):
        return False
    job._trial_queue = IsolatingQueue(job.config.n_concurrent_trials, job.config.retry, stock._hooks)
    return True


@contextlib.contextmanager
def patched() -> Iterator[None]:
    """Have Harbor resolve `${NAME}` in environment.env and kwargs, and a failed preflight spoil only its trials."""
    stock_preflight = AgentFactory.run_preflight

    def preflight(config: Any, **asked: Any) -> None:
        try:
            stock_preflight(config, **asked)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - each of its trials tells it
            _refused[config.model_dump_json()] = error

    def resolving(stock: Any) -> Any:
        def create(config: Any, *args: Any, **kwargs: Any) -> Any:
            texts = {key: value for key, value in config.kwargs.items() if isinstance(value, str)}
            made = {"env": resolve_env_vars(config.env), "kwargs": config.kwargs | resolve_env_vars(texts)}
            return stock(config.model_copy(update=made), *args, **kwargs)

        return create

    environment, agent = "create_environment_from_config", "create_agent_from_config"
    with (
        patch.object(EnvironmentFactory, environment, resolving(getattr(EnvironmentFactory, environment))),
        patch.object(AgentFactory, agent, resolving(getattr(AgentFactory, agent))),
        patch.object(AgentFactory, "run_preflight", preflight),
    ):
        yield
