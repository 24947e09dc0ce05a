"""The lessons' self-checks: each looks at an answer and says what is wrong with it, or that it is right."""

import html
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Verdict:
    """Right, or not yet and why; the word says it, not only the colour."""

    right: bool
    text: str

    def __repr__(self) -> str:
        return f"{'Right' if self.right else 'Not yet'}: {self.text}"

    def _repr_html_(self) -> str:
        colour = "--jp-success-color1, #2e7d32" if self.right else "--jp-warn-color0, #b26a00"
        mark, word = ("✓", "Right") if self.right else ("○", "Not yet")
        return (
            f'<p style="border-left: 4px solid var({colour}); padding: 4px 12px; margin: 4px 0">'
            f"<strong>{mark} {word}:</strong> {html.escape(self.text)}</p>"
        )


class WrongAnswerError(Exception):
    """What is wrong with an answer."""


CHECKS: dict[str, Callable[..., str]] = {}


def _check(name: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
    def add(function: Callable[..., str]) -> Callable[..., str]:
        CHECKS[name] = function
        return function

    return add


def check(name: str, answer: Any, *given: Any) -> Verdict:
    """Look at an answer to the exercise `name`; `given` is what the lesson computed it from."""
    if answer is None:
        return Verdict(False, "put your answer in place of None, and run the cell again.")
    try:
        return Verdict(True, CHECKS[name](answer, *given))
    except WrongAnswerError as wrong:
        return Verdict(False, str(wrong))
    except Exception as error:  # noqa: BLE001 - a wrong answer of any type is the learner's to read about, not a traceback
        return Verdict(False, f"the check could not use this answer ({type(error).__name__}: {error}).")


def _need(condition: Any, otherwise: str) -> None:
    if not bool(condition):
        raise WrongAnswerError(otherwise)


def _number(answer: Any) -> float:
    _need(
        not isinstance(answer, str | bool | pd.Series | pd.DataFrame),
        f"a number is wanted, this is a {type(answer).__name__}.",
    )
    return float(answer)


@_check("00-oracle-mean")
def _oracle_mean(answer: Any, trials: pd.DataFrame) -> str:
    value = _number(answer)
    sure = trials[~trials["task"].str.endswith("flaky-network")]
    every = sure["reward"].mean()
    right = sure.loc[sure["agent"] == "oracle", "reward"].mean()
    _need(
        abs(value - every) > 1e-9 or every == right, "that is the mean over both agents; take the rows of the oracle."
    )
    _need(
        abs(value - right) < 1e-9,
        f"{value:.3f} is not it; leave out flaky-network, take the oracle's rows, then the mean of `reward`.",
    )
    return f"{right:.1f}: the oracle gets full marks wherever no coin is thrown, so these tasks work here."


@_check("05-fair-test")
def _fair_test(answer: Any) -> str:
    _need(isinstance(answer, str) and answer.strip(), "give the text of test.sh, a string.")
    _need(
        "/logs/verifier/reward.txt" in answer,
        "it never writes /logs/verifier/reward.txt, so the trial would have no reward.",
    )
    paid = {
        "7\n": _run_test(answer, "7\n"),
        "": _run_test(answer, ""),
        "8\n": _run_test(answer, "8\n"),
        None: _run_test(answer, None),
    }
    _need(paid["7\n"] == 1, f"the right number 7 in /app/count.txt gets {paid['7' + chr(10)]}; it should get 1.")
    _need(paid[""] == 0, "the empty file that the image already has still gets paid.")
    _need(paid["8\n"] == 0, "a wrong number (8) gets paid.")
    _need(paid[None] == 0, "no file at all should get 0.")
    return "it pays the solution, and not the empty file, a wrong number or nothing."


def _run_test(script: str, count: str | None) -> float | None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("app", "logs/verifier"):
            Path(folder, name).mkdir(parents=True)
        Path(folder, "app/poem.txt").write_text("the fog comes\non little cat feet\n")
        if count is not None:
            Path(folder, "app/count.txt").write_text(count)
        text = script.replace("/app/", f"{folder}/app/").replace("/logs/", f"{folder}/logs/")
        subprocess.run(
            ["bash", "-c", text],
            cwd=folder,
            capture_output=True,
            timeout=10,
            check=False,
            env=os.environ | {"LC_ALL": "C"},
        )
        try:
            return float(Path(folder, "logs/verifier/reward.txt").read_text())
        except (OSError, ValueError):
            return None


@_check("06-agent-steps")
def _agent_steps(answer: Any, steps: pd.DataFrame) -> str:
    _need(isinstance(answer, pd.Series), f"a Series is wanted, this is a {type(answer).__name__}.")
    right = steps[steps["source"] == "agent"].groupby("trial").size()
    every = steps.groupby("trial").size()
    _need(
        not answer.sort_index().equals(every.sort_index()),
        "that counts the user's steps too; keep the rows whose source is agent.",
    )
    _need(set(answer.index) == set(right.index), "its index should be the trials; group by `trial`.")
    _need(
        (answer.reindex(right.index).astype(int) == right).all(), "some counts differ from the number of agent steps."
    )
    return f"{int(right.sum())} agent steps in {len(right)} trials."


@_check("07-slowest-verifier")
def _slowest_verifier(answer: Any, trials: pd.DataFrame) -> str:
    _need(isinstance(answer, str), f"the task's name is wanted, a string; this is a {type(answer).__name__}.")
    medians = trials.groupby("task")["verifier_sec"].median()
    _need(answer in medians.index, f"{answer!r} is no task of this frame; the names are in the column `task`.")
    _need(
        answer == medians.idxmax(), f"{answer} takes {medians[answer]:.2f} s in the median; another task takes longer."
    )
    return f"{answer}, {medians.max():.2f} s in the median."


@_check("08-verdict")
def _verdict(answer: Any) -> str:
    word = str(answer).strip().lower()
    _need(
        word in {"better", "worse", "equivalent", "inconclusive"},
        "choose one of better, worse, equivalent, inconclusive.",
    )
    _need(word not in {"better", "worse"}, "0 lies inside the 95 % interval, so chance alone could have made it.")
    _need(word != "equivalent", "the 90 % interval reaches to +0.06, past the margin of 0.05.")
    return "neither a difference nor its absence is shown; more tasks would settle it."


@_check("01-cloud")
def _cloud(answer: Any, table: pd.DataFrame) -> str:
    _need(isinstance(answer, list | set | tuple | pd.Series), "give a list of names.")
    first = table.head(6)
    right = set(first.loc[(first["runs"] == "cloud") & first["needs_key"], "name"])
    extra, lacking = sorted(set(answer) - right), sorted(right - set(answer))
    _need(
        not extra, f"{', '.join(map(str, extra))}: not a first-class environment that runs in a cloud and needs a key."
    )
    _need(not lacking, f"{', '.join(lacking)} is missing.")
    return f"{len(right)} clouds, each with a key of its own."


@_check("02-interval")
def _interval(answer: Any, comparison: Any) -> str:
    _need(isinstance(answer, tuple | list) and len(answer) == 2, "give two numbers, (low, high).")
    row = comparison.table.iloc[0]
    low, high = (_number(value) for value in answer)
    _need(low <= high, "the lower end comes first.")
    ninety = (float(row["low_90"]), float(row["high_90"]))
    _need(
        abs(low - ninety[0]) > 1e-9 or ninety[0] == row["low"], "that is the 90 % interval, which decides equivalence."
    )
    _need(
        abs(low - row["low"]) < 1e-9 and abs(high - row["high"]) < 1e-9,
        "read `low` and `high` in the first row of the table.",
    )
    inside = (
        "0 lies inside, so no difference is shown" if row["low"] <= 0 <= row["high"] else "0 lies outside: a difference"
    )
    return f"{row['low']:+.2f} to {row['high']:+.2f}; {inside}."


@_check("03-missing")
def _missing(answer: Any, trials: pd.DataFrame) -> str:
    _need(isinstance(answer, tuple) and len(answer) == 2, "give a tuple, as in (3, True).")
    count, zero = answer
    right = int(trials["reward"].isna().sum())
    _need(_number(count) == right, f"{count} is not the number of trials whose reward is missing (isna).")
    _need(not zero, "look at their fault: the agent never ran, so a 0 would blame it for a missing key.")
    return f"{right}, and it stays missing."


@_check("04-full-marks")
def _full_marks(answer: Any, trials: pd.DataFrame) -> str:
    _need(isinstance(answer, set | list | tuple), f"a set of names is wanted, this is a {type(answer).__name__}.")
    oracle = trials[trials["agent"] == "oracle"]
    lowest = oracle.groupby("environment")["reward"].min()
    right = set(lowest.index[lowest == 1])
    extra, lacking = sorted(set(answer) - right), sorted(right - set(answer))
    _need(not extra, f"not every trial of the oracle got 1.0 on {', '.join(map(str, extra))}.")
    _need(not lacking, f"{', '.join(lacking)} is missing.")
    return f"{len(right)} environments."
