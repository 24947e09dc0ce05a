"""The part of Harbor's files that the frames need, as typed structs; every other field is skipped while decoding."""

import json
from functools import cache
from types import GenericAlias
from typing import Any

import msgspec


def record(name: str, /, *needed: str, **fields: Any) -> Any:
    """Return a struct whose fields may be missing, but for the `needed`; gc=False, for it holds no cycles."""
    raw = msgspec.Raw
    members = [
        (f, kind) if f in needed else (f, kind, raw(b"")) if kind is raw else (f, kind | None, None)
        for f, kind in fields.items()
    ]
    return msgspec.defstruct(name, members, gc=False, kw_only=True)


def many(kind: Any) -> Any:
    """Return the type of a list of `kind`."""
    return GenericAlias(list, (kind,))


Span = record("Span", started_at=str, finished_at=str)
Usage = record("Usage", n_input_tokens=int, n_cache_tokens=int, n_output_tokens=int, cost_usd=float)
Verified = record("Verified", rewards=dict[str, float | None])
Raised = record("Raised", exception_type=str, exception_message=str, occurred_at=str)
Model = record("Model", name=str, provider=str)
AgentInfo = record("AgentInfo", name=str, version=str, model_info=Model)
TaskConfig = record("TaskConfig", path=str, name=str, source=str)
AgentConfig = record("AgentConfig", name=str, import_path=str, model_name=str)
EnvironmentConfig = record("EnvironmentConfig", type=str, import_path=str)
TrialConfig = record(
    "TrialConfig", task=TaskConfig, trial_name=str, agent=AgentConfig, environment=EnvironmentConfig
)  # an entry of lock.json has the same shape
_OUTCOME: dict[str, Any] = {
    "agent_result": Usage,
    "verifier_result": Verified,
    "exception_info": Raised,
    "agent_execution": Span,
    "verifier": Span,
}
Step = record("Step", step_name=str, **_OUTCOME)
TrialResult = record(
    "TrialResult",
    *("task_name", "config"),
    **dict.fromkeys(("id", "task_name", "source", "task_checksum", "started_at", "finished_at"), str),
    config=TrialConfig,
    agent_info=AgentInfo,
    environment_setup=Span,
    agent_setup=Span,
    **_OUTCOME,
    step_results=many(Step),
)
COUNTS = ("completed", "errored", "running", "pending", "cancelled")
JobStats = record(
    "JobStats",
    **{f"n_{name}_trials": int for name in COUNTS},
    **dict.fromkeys(("n_retries", "n_trials", "n_errors", "n_input_tokens", "n_cache_tokens", "n_output_tokens"), int),
    cost_usd=float,
)  # n_trials and n_errors are Harbor 0.1's names of the first two
JobResult = record(
    "JobResult", id=str, started_at=str, updated_at=str, finished_at=str, n_total_trials=int, stats=JobStats
)
JobConfig = record(
    "JobConfig", trial_name=str, job_name=str, task=TaskConfig, agents=many(AgentConfig), environment=EnvironmentConfig
)
JobLock = record("JobLock", harbor=record("HarborLock", version=str), trials=many(TrialConfig))
Owner = record(
    "Owner",
    **dict.fromkeys(("state", "launched_at", "heartbeat_at", "harbor_version", "harbor_nb_version", "error"), str),
    **dict.fromkeys(("practice", "recorded", "fast_stop"), bool),
)
Event = record("Event", t=str, event=str, trial=str, task=str, reward=float, exception=str, message=str)
Collected = record("Collected", source=str, destination=str, status=str, service=str)
Metrics = record("Metrics", prompt_tokens=int, cached_tokens=int, completion_tokens=int, cost_usd=float)
Called = record("Called", function_name=str)


def speakable(value: Any) -> Any:
    """Return a JSON value whose texts are all Unicode: half a surrogate pair is spelled out."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {speakable(key): speakable(item) for key, item in value.items()}
    return [speakable(item) for item in value] if isinstance(value, list) else value


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(data: bytes | msgspec.Raw, kind: Any) -> Any:
    """Return `data` as `kind`; what strict JSON forbids but Python writes (NaN, numbers in quotes) is read too.

    Raises:
        ValueError: The bytes are no JSON, or not of that shape; the message says where.
    """
    try:
        return _decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as strict:
        try:
            plain = speakable(json.loads(bytes(data), parse_constant=lambda _: None))
            return msgspec.json.decode(msgspec.json.encode(plain), type=kind, strict=False)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except ValueError as error:
            raise ValueError(str(error if isinstance(strict, msgspec.ValidationError) else strict)) from None
