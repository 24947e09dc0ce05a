"""Whatever the trials are, the comparison says something clear and true about them."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import harbor_nb
from harbor_nb.errors import BadInputError, ComparisonError


def whole(comparison):
    """Show it in every way; nothing raises, nothing says nan."""
    shown = [
        str(comparison),
        comparison.to_markdown(),
        comparison._repr_html_(),
        comparison.to_html(),
        repr(comparison),
    ]
    for text in shown:
        assert "nan" not in text.lower().replace("nanmean", "")
    return shown[0]


def test_all_missing_on_one_side(frame, trial):
    lost = [trial(f"t{i}", "daytona", exception="DaytonaError", fault="infrastructure") for i in range(3)]
    found = harbor_nb.compare(pd.concat([frame({"docker": [1, 0, 1]}), pd.DataFrame(lost)]))
    assert found.verdict == "none"
    assert "all trials are missing on daytona" in found.headline
    assert "daytona 3 (infrastructure failure)" in found.headline
    zero = found.table.set_index("missing").loc["counted as 0"]
    assert zero["difference"] == pytest.approx(-2 / 3)
    assert "Counted as 0, the difference is −66.7 points over 3 tasks" in found.headline
    assert found.excluded.groupby("reason")["trials"].sum().to_dict() == {"infrastructure failure": 3}
    assert found.excluded["left_out"].all()
    whole(found)


def test_whose_fault_decides_between_missing_and_zero(frame, trial):
    other = [
        trial("t0", "daytona", exception="AgentCrash", fault="agent"),
        trial("t1", "daytona", exception="RewardFileNotFoundError", fault="task"),
        trial("t2", "daytona", exception="VerifierTimeoutError", fault="unknown"),
        trial("t3", "daytona", exception="DaytonaError", fault="infrastructure"),
        trial("t4", "daytona", exception="CancelledError", fault="user", status="cancelled"),
        trial("t5", "daytona", exception="StrangeError", fault="unknown"),
        trial("t6", "daytona"),
        trial("t7", "daytona", status="running"),
        trial("t8", "daytona", status="unreadable"),
        trial("t9", "daytona", 0.0, exception="DaytonaError", fault="infrastructure", failure="connection-lost"),
    ]
    found = harbor_nb.compare(pd.concat([frame({"docker": [1] * 10}), pd.DataFrame(other)]))
    pairs = found.pairs.set_index("task")
    assert pairs["mean"].dropna().to_dict() == {"t0": 0.0, "t1": 0.0, "t2": 0.0}
    assert found.excluded.set_index("task")["reason"].to_dict() == {
        "t3": "infrastructure failure", "t4": "cancelled", "t5": "failure of unknown cause",
        "t6": "no reward and no failure recorded", "t7": "not finished", "t8": "unreadable result",
        "t9": "infrastructure failure",
    }  # fmt: skip
    zero = found.table.set_index("missing").loc["counted as 0"]
    assert zero["tasks"] == 9  # the running one is no failure yet
    whole(found)


def test_one_task(frame):
    found = harbor_nb.compare(frame({"docker": [1], "daytona": [0]}))
    assert found.verdict == "inconclusive"
    assert "over 1 paired task." in found.headline
    assert "One task tells nothing about others" in found.headline
    whole(found)


@pytest.mark.parametrize(
    ("tasks", "verdict"), [(2, "inconclusive"), (20, "inconclusive"), (58, "inconclusive"), (59, "equivalent")]
)
def test_identical_sides_are_equivalent_only_with_enough_tasks(frame, tasks, verdict):
    rewards = [float(i % 2) for i in range(tasks)]
    found = harbor_nb.compare(frame({"docker": rewards, "daytona": rewards}))
    assert found.verdict == verdict
    assert found.table["difference"].tolist() == [0, 0]
    assert (found.table["low"] < 0).all()
    whole(found)


def test_one_attempt_here_and_five_there(frame):
    found = harbor_nb.compare(frame({"docker": [1, 0, 1, 0], "daytona": [[1, 1, 0, 1, 1]] * 4}))
    assert found.pairs["n"].tolist() == [5] * 4
    assert found.table["difference"].iloc[0] == pytest.approx(0.3)
    assert any("Attempts a task differ" in note for note in found.notes)
    assert found.table["test"].iloc[0].startswith("sign-flip")
    assert found.pass_at_k.groupby("side")["k"].max().to_dict() == {"daytona": 5, "docker": 1}
    whole(found)


def test_few_tasks_tell_only_with_as_many_attempts_on_both_sides(frame):
    def worse(attempts):
        same, part = {f"same{i}": [1] * 5 for i in range(6)}, {f"part{i}": [1, 1, 1, 0, 0] for i in range(6)}
        return harbor_nb.compare(frame({"docker": dict.fromkeys([*same, *part], attempts), "daytona": same | part}))

    even, uneven = worse([1] * 5), worse([1])
    assert even.table["difference"].iloc[0] == uneven.table["difference"].iloc[0] == pytest.approx(-0.2)
    assert even.verdict == "worse"
    assert uneven.verdict == "inconclusive"
    assert "not exact" in uneven.table["test"].iloc[0]
    assert "not exact" not in even.table["test"].iloc[0]


def test_rewards_outside_the_unit_range(frame):
    rng = np.random.default_rng(0)
    base = rng.normal(100, 20, 40)
    found = harbor_nb.compare(frame({"docker": list(base), "daytona": list(base + rng.normal(10, 3, 40))}), margin=5)
    assert found.verdict == "better"
    assert any("outside 0..1" in note for note in found.notes)
    assert "points" not in found.headline
    row = found.table.iloc[0]
    assert row["low"] < 10 < row["high"]
    assert found.pass_at_k.empty
    whole(found)


def test_nan_and_infinite_rewards_are_missing(frame):
    data = frame({"docker": [1.0, 1.0, 1.0], "daytona": [np.nan, np.inf, 1.0]})
    data["status"] = data["status"].where(np.isfinite(data["reward"]), "unscored")
    found = harbor_nb.compare(data)
    assert found.table["tasks"].tolist() == [1, 3]
    assert found.excluded["trials"].sum() == 2
    whole(found)


def test_two_named_rewards_and_none_called_reward(frame):
    data = frame({"docker": [0.5] * 3, "daytona": [0.5] * 3}).assign(reward=np.nan, reward_style=0.5, reward_tests=1.0)
    found = harbor_nb.compare(data)
    assert found.verdict == "none"
    assert "choose outcome= one of 'reward_style', 'reward_tests'" in found.headline
    whole(found)
    named = harbor_nb.compare(data, outcome="style")
    assert named.table["mean_side"].tolist() == [0.5, 0.5]
    with pytest.raises(BadInputError, match="No outcome 'stile'"):
        harbor_nb.compare(data, outcome="stile")


def test_checksums_and_spellings(frame, trial):
    rows = [
        trial("same", "docker", 1.0), trial("same", "daytona", 1.0),
        trial("changed", "docker", 1.0, task_checksum="a"), trial("changed", "daytona", 1.0, task_checksum="b"),
        trial("prefix", "docker", 1.0), trial("prefix", "daytona", 1.0, provider="reseller"),
        trial("who", "docker", 1.0), trial("who", "daytona", 1.0, agent="another"),
        trial("alone", "docker", 1.0), trial("broken", "docker", 0.0), trial("broken", "daytona", task_checksum=None,
        status="cancelled"),
    ]  # fmt: skip
    found = harbor_nb.compare(pd.DataFrame(rows))
    reasons = found.excluded.set_index(["task", "side"])["reason"].to_dict()
    near = "model spelled with another provider prefix: a near miss, not merged"
    assert reasons == {
        ("changed", "docker"): "other checksum on daytona", ("changed", "daytona"): "other checksum on docker",
        ("prefix", "docker"): near, ("prefix", "daytona"): near,
        ("who", "docker"): "not with this agent and model on daytona",
        ("who", "daytona"): "not with this agent and model on docker",
        ("alone", "docker"): "not on daytona", ("broken", "daytona"): "cancelled",
    }  # fmt: skip
    assert "other checksum on daytona" in found.headline
    whole(found)


def test_nothing_to_compare(frame):
    one = frame({"docker": [1, 0]})
    with pytest.raises(ComparisonError, match="only one environment: docker"):
        harbor_nb.compare(one)
    with pytest.raises(ComparisonError, match="no trials"):
        harbor_nb.compare(one.iloc[:0])
    with pytest.raises(BadInputError, match="no column 'colour'"):
        harbor_nb.compare(one, by="colour")
    with pytest.raises(BadInputError, match="margin must be above 0"):
        harbor_nb.compare(one, margin=0)
    two = frame({"e2b": [1], "modal": [1]})
    with pytest.raises(BadInputError, match="Say which environment is the baseline, for example baseline='e2b'"):
        harbor_nb.compare(two)
    with pytest.raises(BadInputError, match="No environment 'docker'"):
        harbor_nb.compare(two, baseline="docker")
    with pytest.raises(BadInputError, match="holds no numbers"):
        harbor_nb.compare(frame({"docker": [1], "daytona": [1]}), outcome="agent")


def test_practice_and_recorded(frame):
    data = frame({"docker": [1] * 80, "daytona": [1] * 80}).assign(recorded=True)
    found = harbor_nb.compare(data)
    assert found.verdict == "equivalent"
    assert found.headline.startswith("[recorded]")
    data["practice"] = data["environment"] == "daytona"
    mixed = harbor_nb.compare(data)
    assert mixed.verdict == "none"
    assert mixed.labels == ["practice", "recorded"]
    assert "practice trials are mixed with real ones" in mixed.headline
    assert mixed.table["difference"].tolist() == [0, 0]
    alike = harbor_nb.compare(data.assign(practice=True))
    assert alike.verdict == "equivalent"
    assert alike.headline.startswith("[practice, recorded]")
    for comparison in (mixed, alike):
        assert "practice" in whole(comparison)
        assert "practice" in comparison.plot().svg


def test_a_repaired_job_is_not_docker_versus_daytona(frame):
    data = frame({"docker": [1, 1], "daytona": [1, 0]}).assign(job_path="jobs/one", job="one")
    found = harbor_nb.compare(data)
    assert found.verdict == "none"
    assert "a repaired job ran its broken trials again elsewhere" in found.headline
    marked = frame({"docker": [1, 1], "daytona": [1, 0]})
    marked.attrs["repaired"] = True
    assert harbor_nb.compare(marked).verdict == "none"


def test_several_sides_are_corrected(frame):
    weak = [0.0] * 20 + [1.0] * 180
    data = frame({"docker": [1.0] * 200, "daytona": weak, "e2b": [1.0] * 200, "modal": [0.0] * 30 + [1.0] * 170})
    alone = harbor_nb.compare(data[data["environment"].isin(["docker", "daytona"])])
    found = harbor_nb.compare(data)
    assert alone.verdict == "worse"
    assert found.verdicts == {"daytona": "worse", "e2b": "equivalent", "modal": "worse"}
    left = found.table[found.table["missing"] == "left out"].set_index("side")
    assert left.loc["daytona", "p_holm"] == pytest.approx(2 * left.loc["daytona", "p_value"])
    assert left.loc["modal", "p_holm"] == pytest.approx(3 * left.loc["modal", "p_value"])
    assert any("Holm" in note for note in found.notes)
    assert found.verdict == "daytona: worse; e2b: equivalent; modal: worse"
    whole(found)


def test_several_sides_have_a_line_each_and_tell_once_what_they_share(frame, trial):
    rewards = [1.0] * 28 + [0.0]
    data = frame(dict.fromkeys(("docker", "daytona", "e2b", "modal"), rewards))
    lost = [trial("lost", "docker", exception="CommandError", fault="infrastructure")]
    lost += [trial("lost", side, 1.0) for side in ("daytona", "e2b", "modal")]
    found = harbor_nb.compare(pd.concat([data, pd.DataFrame([*lost, trial("alone", "e2b", 1.0)])]))
    lines = found.headline.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["daytona", "e2b", "modal"]
    assert all("over 29 paired tasks. Counted as 0, the difference is +3.3 points" in line for line in lines[:3])
    assert lines[3:] == [
        "Tasks left out: 1 (infrastructure failure), 1 (not on docker). Trials missing: docker 1 (infrastructure"
        " failure). What else differs is not known: there are no job folders to read it from."
    ]
    assert all(len(line) < 320 for line in lines)
    assert sum("To settle it at 80 % power" in note for note in found.notes) == 3
    assert found.to_markdown().splitlines()[0].startswith("**daytona can be called")
    whole(found)


def test_an_interval_and_a_test_that_disagree_are_both_told(frame):
    few = harbor_nb.compare(frame({"docker": [1.0] * 30, "daytona": [0.0] * 5 + [1.0] * 25}))
    assert few.verdict == "worse"
    assert "over 30 paired tasks (the 95 % interval leaves out 0, yet p = 0.0625 by exact McNemar)" in few.headline
    more = harbor_nb.compare(frame({"docker": [1.0] * 30, "daytona": [0.0] * 8 + [1.0] * 22}))
    assert more.verdict == "worse"
    assert "yet p" not in more.headline


def test_correction_takes_a_verdict_back(frame):
    weak = [0.0] * 6 + [1.0] * 54
    both = {"docker": [1.0] * 60, "daytona": weak, "e2b": weak, "modal": weak, "runloop": weak}
    assert harbor_nb.compare(frame(dict(list(both.items())[:2]))).verdict == "worse"
    assert set(harbor_nb.compare(frame(both)).verdicts.values()) == {"inconclusive"}


def test_equivalent_with_a_small_difference(frame):
    rng = np.random.default_rng(1)
    base = list(rng.uniform(0.3, 0.6, 200))
    found = harbor_nb.compare(frame({"docker": base, "daytona": [value + 0.01 for value in base]}))
    assert found.verdict == "equivalent, small difference detected"
    assert "with a small difference detected: +1.0 points, 90 % interval" in found.headline


def test_trials_given_twice_count_once(frame):
    data = frame({"docker": [1, 0], "daytona": [1, 0]}).assign(path=["a", "b", "c", "d"])
    found = harbor_nb.compare(pd.concat([data, data]))
    assert found.pairs["n"].tolist() == [1, 1]
    assert found.notes[0].startswith("4 trials were given twice and count once.")


def test_what_an_agent_wrote_is_shown_as_text(frame):
    evil = "<script>alert(1)</script>\x1b[31m|`x`"
    data = frame({"docker": {evil: 1.0}, "daytona": {evil: 0.0}})
    found = harbor_nb.compare(data.assign(exception="<img src=x onerror=y>", fault="agent"))
    for text in (found._repr_html_(), found.to_html()):
        assert "<script>alert" not in text
        assert "<img" not in text
    assert "\x1b" not in str(found) + found.to_markdown() + found.to_html()
    assert "<script" not in found.to_markdown().replace("\\<script", "")


@pytest.mark.deep
def test_ten_thousand_tasks_make_a_report_of_bounded_size(frame):
    rng = np.random.default_rng(0)
    sides = {side: list(rng.integers(2, size=10_000).astype(float)) for side in ("docker", "daytona")}
    data = frame(sides)
    found = harbor_nb.compare(data[(data.index % 7 > 0) | (data["environment"] == "docker")])
    assert len(found._repr_html_()) < 30_000
    assert len(found.to_html()) < 200_000
    assert len(str(found)) < 20_000
    assert len(found.excluded) > 1000
    whole(found)


def test_time_and_cost_ratios(frame):
    data = frame({"docker": [[1, 1]] * 12, "daytona": [[1, 1]] * 12})
    slow = data["environment"] == "daytona"
    later = data.groupby(["environment", "task"]).cumcount() == 1
    rng = np.random.default_rng(5)
    noise = np.exp(rng.normal(0, 0.1, len(data)))
    data["agent_sec"] = np.where(slow, 30.0, 10.0) * noise
    data["environment_setup_sec"] = np.where(later, 1.0, 60.0) * np.where(slow, 0.5, 1.0)
    data["cost_usd"] = np.where(slow & ~later, np.nan, 0.02)
    data["job_path"] = data["environment"]
    data["started_at"] = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(later * 100, unit="s")
    lost = data.iloc[[0]].assign(reward=np.nan, status="unscored", fault="infrastructure", agent_sec=0.001)
    phases = harbor_nb.compare(pd.concat([data, lost])).phases.set_index("phase")
    logs = np.log(data["agent_sec"]).groupby([data["task"], data["environment"]]).mean().unstack()
    change = logs["daytona"] - logs["docker"]
    theirs = stats.ttest_1samp(change, 0).confidence_interval(0.95)
    expected = np.exp([change.mean(), theirs.low, theirs.high])
    assert phases.loc["agent", ["ratio", "low", "high"]].tolist() == pytest.approx(list(expected))
    assert 2.5 < phases.loc["agent", "ratio"] < 3.5
    cold, warm = "environment setup, first start of a task", "environment setup, later starts"
    assert phases.loc[[cold, warm], "baseline"].tolist() == pytest.approx([60.0, 1.0])
    assert phases.loc[[cold, warm], "ratio"].tolist() == pytest.approx([0.5, 0.5])
    assert phases.loc["cost (USD)", ["tasks", "ratio"]].tolist() == pytest.approx([12, 1.0])
    assert "verifier" not in phases.index


def test_agents_are_compared_on_the_environments_they_share(frame):
    rows = [
        frame({side: [1, 0, 1]}, agent=agent, model=agent)
        for agent, sides in (("a", ["docker", "local"]), ("b", ["docker", "daytona"])) for side in sides
    ]  # fmt: skip
    found = harbor_nb.compare(pd.concat(rows), by="agent", baseline="a")
    assert found.pairs.empty  # the models differ too
    alike = harbor_nb.compare(pd.concat(rows).assign(model="m"), by="agent", baseline="a")
    assert set(alike.pairs["environment"]) == {"docker"}
    assert alike.excluded["reason"].unique().tolist() == [
        "not with this model and environment on b", "not with this model and environment on a"
    ]  # fmt: skip


def test_models_are_named_by_their_provider_where_one_name_has_two(frame):
    told = [("x", "maker"), ("y", "maker")]
    models = pd.concat([frame({"docker": [1]}, model=model, provider=provider) for model, provider in told])
    assert harbor_nb.compare(models, by="model", baseline="x").verdicts == {"y": "inconclusive"}
    twice = pd.concat([models, frame({"docker": [0]}, model="y", provider="reseller")])
    found = harbor_nb.compare(twice, by="model", baseline="x")
    assert set(found.verdicts) == {"maker/y", "reseller/y"}


def test_how_many_more_attempts_would_settle_it(frame):
    rng = np.random.default_rng(4)
    sides = {side: rng.integers(2, size=(40, 3)).astype(float) for side in ("docker", "daytona")}
    found = harbor_nb.compare(frame({side: [list(row) for row in rewards] for side, rewards in sides.items()}))
    assert found.verdict == "inconclusive"
    spread = (sides["daytona"].mean(1) - sides["docker"].mean(1)).var(ddof=1)
    noise = sum(rewards.var(axis=1, ddof=1).mean() / 3 for rewards in sides.values())  # of a mean of three attempts
    wanted = int(re.search(r"about ([\d,]+) tasks would show equivalence", found.headline)[1].replace(",", ""))
    room = spread * 40 / wanted - max(spread - noise, 0)
    more = re.search(r"about ([\d,]+) attempts a side on each of these tasks, as the attempts here", found.headline)
    assert room > 0
    assert int(more[1].replace(",", "")) == int(np.ceil(noise * 3 / room))


def test_long_names_stay_apart_in_a_picture(frame):
    names = [
        f"an-organisation/{'a-very-long-name-' * 3}{end}" for end in ("first", "second")
    ]  # alike up to character 60
    found = harbor_nb.compare(frame({"docker": dict.fromkeys(names, 1.0), "daytona": dict.fromkeys(names, 0.0)}))
    picture = found.plot("pairs").svg
    assert all(name in picture for name in names)
    room = re.search(r'<g fill="none" stroke-miterlimit="10" transform="translate\((\d+),', picture)
    assert int(room[1]) >= len(names[1])  # a wider font in the reader's browser does not run out of the picture
