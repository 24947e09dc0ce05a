"""`make demo`: real jobs on what this machine can run, then a table, a chart and a report."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harbor_nb.errors import BadInputError, HarborNbError
from harbor_nb.samples import sample_jobs, sample_tasks

if TYPE_CHECKING:
    import pandas as pd

AGENTS = ("oracle", "nop")
_SHOWN = [
    "environment", "agent", "n", "scored", "missing", "score", "score_low", "score_high",
    "environment_setup_sec", "agent_sec", "verifier_sec", "total_sec",
]  # fmt: skip


def run_demo(
    output: Path | str = "demo", environments: Sequence[str] = (), tasks: Path | str | None = None, attempts: int = 1
) -> "pd.DataFrame":
    """Run the oracle and the nop agent on the sample tasks, print the table, and write the report and the chart.

    Args:
        output: folder for `report.html`, `chart.png` and the jobs.
        environments: where to run; empty means `local`, and docker when an engine answers.
        tasks: a task or dataset folder; the sample tasks by default.
        attempts: trials of each agent on each task.

    Returns:
        The trials, one row each.

    Raises:
        BadInputError: `output` can't be written.
        HarborNbError: what was asked for can't run here, or no trial got a result.

    Example:
        >>> trials = run_demo(output="demo")  # doctest: +SKIP
    """
    from harbor_nb.backends.readiness import check
    from harbor_nb.running.planning import plan

    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"can't write to {folder}: {error.strerror}; name another folder with --output") from None
    found = {name: check(name) for name in environments or ("local", "docker")}
    chosen = [name for name, seen in found.items() if seen.ready]
    left_out = [f"{name}: {seen.reason}; {seen.fix}" for name, seen in found.items() if not seen.ready]
    for line in left_out:
        print(f"left out  {line}")
    if chosen:
        print(f"running   {' and '.join(AGENTS)} on {' and '.join(chosen)}")
        name = time.strftime("demo-%Y%m%d-%H%M%S")
        planned = plan(tasks or sample_tasks(), list(AGENTS), chosen, attempts, name, jobs_dir=folder / "jobs")
        trials = planned.launch().wait().trials()
        if trials["reward"].isna().all():
            reasons = [*trials["message"].dropna(), "the jobs did not start"]
            raise HarborNbError(f"no trial got a result: {reasons[0]}; type: harbor-nb doctor")
    elif wanted_here := (environments or tasks):
        raise HarborNbError(f"nothing can run {wanted_here} here: {' | '.join(left_out)}")
    else:
        from harbor_nb.results import frames

        print("recorded  nothing can run jobs here; these are recorded jobs, made earlier on another machine")
        trials = frames.trials(sample_jobs())
    _report(trials, folder)
    return trials


def _report(trials: "pd.DataFrame", folder: Path) -> None:
    from markupsafe import Markup

    from harbor_nb._display import render
    from harbor_nb.results import charts
    from harbor_nb.results.comparison import compare
    from harbor_nb.results.summaries import summary

    table = summary(trials, by=["environment", "agent"])
    per_task = trials.pivot_table(index="task", columns=["environment", "agent"], values="reward").round(2)
    headline = compare(trials).headline if trials["environment"].nunique() > 1 else ""
    short = table[_SHOWN].round(2)
    print(f"\n{short.to_string(index=False, na_rep='-')}\n\nReward per task\n{per_task.to_string(na_rep='-')}\n")
    if headline:
        print(f"{headline}\n")
    chart = charts.overview_chart(trials)
    chart.save(folder / "chart.png")
    page = render(
        "demo_report",
        headline=headline,
        summary=short.to_dict("split"),
        per_task=per_task.reset_index().to_dict("split"),
        chart=Markup(chart.svg),  # noqa: S704 - drawn by vl-convert, which escapes every text
        recorded=bool(trials["recorded"].fillna(False).any()),
        when=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        python=sys.version.split()[0],
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
    print(f"report    {folder / 'report.html'}\nchart     {folder / 'chart.png'}")
