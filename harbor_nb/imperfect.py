"""A seeded agent that solves some tasks and not others, so that comparisons have something to compare."""

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harbor.agents.base import BaseAgent
from harbor.environments.base import BaseEnvironment
from harbor.models.agent.context import AgentContext
from harbor.models.task.task import Task
from harbor.models.trajectories import Agent, Observation, ObservationResult, Step, ToolCall, Trajectory


class ImperfectAgent(BaseAgent):
    """Runs the task's own solution when a coin says so, else stops half-way; calls no model and costs nothing.

    The coin is weighted per task: `skill`, moved up or down by up to `spread` for each task's name. It is thrown
    from (`seed`, trial name, step), so attempts differ, and the same trial name always falls the same way.

    Args:
        logs_dir: the trial's agent folder, given by Harbor.
        skill: probability between 0 and 1 of solving a task of ordinary difficulty.
        spread: how far a task's own difficulty moves that probability, up or down.
        seed: the coin's seed.
        **kwargs: Harbor's own arguments.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.launch(harbor_nb.sample_tasks(), agent="harbor_nb.imperfect:ImperfectAgent")  # doctest: +SKIP
    """

    SUPPORTS_ATIF = True

    def __init__(
        self, logs_dir: Path, *, skill: float = 0.6, spread: float = 0.3, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(logs_dir=logs_dir, **kwargs)
        self._skill, self._spread, self._seed = float(skill), float(spread), int(seed)
        self._trial_dir = Path(logs_dir).parent
        self._step = 0

    @staticmethod
    def name() -> str:
        """Give the agent's name in results."""
        return "imperfect"

    def version(self) -> str:
        """Give the agent's version in results."""
        return "1.0.0"

    async def setup(self, environment: BaseEnvironment) -> None:
        """Find the task behind the trial; nothing is installed."""
        config = json.loads((self._trial_dir / "config.json").read_text())
        path = config["task"].get("path")
        if path is None:
            raise ValueError("ImperfectAgent reads the task's solution, so the task must be on this disk")
        self._task = Task(Path(path))

    def solves(self, task_name: str, trial_name: str, step: int = 0) -> bool:
        """Tell whether this trial's coin falls on solving."""
        difficulty = random.Random(f"{self._seed}:{task_name}").uniform(-1, 1)  # noqa: S311 - a coin, not a secret
        chance = min(max(self._skill + self._spread * difficulty, 0.0), 1.0)
        return random.Random(f"{self._seed}:{trial_name}:{step}").random() < chance  # noqa: S311 - a coin, not a secret

    async def run(self, instruction: str, environment: BaseEnvironment, context: AgentContext) -> None:
        """Look around, then solve the task or give up, and write the trajectory."""
        steps = [_step(1, "user", instruction)]
        await self._act(environment, steps, "I look at what is there.", "ls -la")
        if self.solves(self._task.name, self._trial_dir.name, self._step):
            solution = self._task.paths.solution_dir
            if self._task.config.steps:
                solution = self._task.paths.step_solution_dir(self._task.config.steps[self._step].name)
            await environment.upload_dir(source_dir=solution, target_dir="/solution")
            await self._act(environment, steps, "I know how to solve this.", "bash /solution/solve.sh")
        else:
            await self._act(environment, steps, "I believe that this is done already.", "true")
        self._step += 1
        trajectory = Trajectory(
            schema_version="ATIF-v1.6",
            session_id=self._trial_dir.name,
            agent=Agent(name=self.name(), version=self.version()),
            steps=steps,
        )
        self.logs_dir.mkdir(parents=True, exist_ok=True)
        (self.logs_dir / "trajectory.json").write_text(trajectory.model_dump_json(indent=1, exclude_none=True))

    async def _act(self, environment: BaseEnvironment, steps: list[Step], message: str, command: str) -> None:
        done = await environment.exec(command=command)
        call = ToolCall(tool_call_id=f"call-{len(steps)}", function_name="bash", arguments={"command": command})
        seen = ObservationResult(source_call_id=call.tool_call_id, content=(done.stdout or "") + (done.stderr or ""))
        steps.append(
            _step(len(steps) + 1, "agent", message, tool_calls=[call], observation=Observation(results=[seen]))
        )


def _step(number: int, source: Literal["user", "agent"], message: str, **more: Any) -> Step:
    return Step(step_id=number, timestamp=datetime.now(UTC).isoformat(), source=source, message=message, **more)
