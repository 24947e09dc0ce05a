"""The part of Harbor's files that the frames need, as typed structs; every other field is skipped while decoding."""

import json
from functools import cache
from typing import Any

import msgspec


class Struct(msgspec.Struct, gc=False, omit_defaults=True):
    """A record without cycles, so that Python's garbage collector never has to visit it."""


class Model(Struct):
    """`agent_info.model_info` of a trial."""

    name: str | None = None
    provider: str | None = None


class AgentInfo(Struct):
    """`agent_info` of a trial."""

    name: str | None = None
    version: str | None = None
    model_info: Model | None = None


class Usage(Struct):
    """`agent_result`: what the agent spent."""

    n_input_tokens: int | None = None
    n_cache_tokens: int | None = None
    n_output_tokens: int | None = None
    cost_usd: float | None = None


class Verified(Struct):
    """`verifier_result`."""

    rewards: dict[str, float | None] | None = None


class Raised(Struct):
    """`exception_info`, without the traceback."""

    exception_type: str | None = None
    exception_message: str | None = None
    occurred_at: str | None = None


class Span(Struct):
    """When a phase began and ended, ISO 8601."""

    started_at: str | None = None
    finished_at: str | None = None


class TaskConfig(Struct):
    """`config.task`."""

    path: str | None = None
    name: str | None = None
    source: str | None = None


class AgentConfig(Struct):
    """`config.agent`."""

    name: str | None = None
    import_path: str | None = None
    model_name: str | None = None


class EnvironmentConfig(Struct):
    """`config.environment`."""

    type: str | None = None
    import_path: str | None = None


class TrialConfig(Struct):
    """A trial's `config.json`, and `config` in its result; an entry of `lock.json` has the same shape."""

    task: TaskConfig | None = None
    trial_name: str | None = None
    agent: AgentConfig | None = None
    environment: EnvironmentConfig | None = None


class Step(Struct):
    """One entry of `step_results`, in multi-step tasks."""

    step_name: str | None = None
    agent_result: Usage | None = None
    verifier_result: Verified | None = None
    exception_info: Raised | None = None
    agent_execution: Span | None = None
    verifier: Span | None = None


class TrialResult(Struct):
    """A trial's `result.json`."""

    task_name: str
    config: TrialConfig
    id: str | None = None
    source: str | None = None
    task_checksum: str | None = None
    agent_info: AgentInfo | None = None
    agent_result: Usage | None = None
    verifier_result: Verified | None = None
    exception_info: Raised | None = None
    started_at: str | None = None
    finished_at: str | None = None
    environment_setup: Span | None = None
    agent_setup: Span | None = None
    agent_execution: Span | None = None
    verifier: Span | None = None
    step_results: list[Step] | None = None


class JobStats(Struct):
    """`stats` of a job's result; `n_trials` and `n_errors` are Harbor 0.1's names."""

    n_completed_trials: int | None = None
    n_errored_trials: int | None = None
    n_running_trials: int | None = None
    n_pending_trials: int | None = None
    n_cancelled_trials: int | None = None
    n_retries: int | None = None
    n_trials: int | None = None
    n_errors: int | None = None
    n_input_tokens: int | None = None
    n_cache_tokens: int | None = None
    n_output_tokens: int | None = None
    cost_usd: float | None = None


class JobResult(Struct):
    """A job's `result.json`."""

    id: str | None = None
    started_at: str | None = None
    updated_at: str | None = None
    finished_at: str | None = None
    n_total_trials: int | None = None
    stats: JobStats = msgspec.field(default_factory=JobStats)


class JobConfig(Struct):
    """The part of `config.json` that tells a job's from a trial's."""

    trial_name: str | None = None
    job_name: str | None = None
    task: TaskConfig | None = None
    agents: list[AgentConfig] | None = None
    environment: EnvironmentConfig | None = None


class HarborLock(Struct):
    """`harbor` in `lock.json`."""

    version: str | None = None


class JobLock(Struct):
    """A job's `lock.json`: every trial that it means to run."""

    harbor: HarborLock | None = None
    trials: list[TrialConfig] | None = None


class Owner(Struct):
    """`harbor_nb.json`, the owner record that the runner keeps."""

    state: str | None = None
    environment: str | None = None
    practice: bool = False
    recorded: bool = False
    fast_stop: bool = False
    launched_at: str | None = None
    heartbeat_at: str | None = None
    harbor_version: str | None = None
    harbor_nb_version: str | None = None
    error: str | None = None


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode[T](data: bytes, kind: type[T]) -> T:
    """Return `data` as `kind`; what strict JSON forbids but Python writes (NaN, Infinity, numbers in quotes) is read too.

    Raises:
        ValueError: The bytes are no JSON, or not of that shape; the message says where.
    """
    try:
        result: T = _decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as strict:
        try:
            result = msgspec.convert(json.loads(data), kind, strict=False)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except ValueError as error:
            raise ValueError(str(error if isinstance(strict, msgspec.ValidationError) else strict)) from None
    return result
