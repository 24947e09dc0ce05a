"""`make record`: run the sample tasks for real, and keep the job folders as the recorded jobs that the wheel ships."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "notebooks/recorded"
NEUTRAL = "/home/you/harbor-lessons"  # stands for the folder of the recording, which is nobody's business
IMPERFECT = "harbor_nb.imperfect:ImperfectAgent"
LARGEST_BYTES = 200_000


def record(folder: Path) -> None:
    import harbor_nb as hb

    tasks = folder / "tasks"
    shutil.copytree(hb.sample_tasks(), tasks)
    jobs, both = folder / "jobs", ["local", "docker"]
    runs = [
        hb.plan(tasks, agents=["oracle", "nop"], environments=both, name="oracle-and-nop", jobs_dir=jobs),
        hb.plan(tasks, agents=[IMPERFECT], environments=both, attempts=3, name="imperfect", jobs_dir=jobs),
    ]
    for run in runs:
        run.launch().wait()
    race = tasks / "auth-token-race-condition"
    for name, environment in (("test_auth_token_docker", "docker"), ("test_auth_token_task", "daytona")):
        job = hb.plan(race, environments=environment, name=name, exact_name=True, jobs_dir=jobs).launch(force=True)
        job.wait()


def keep(folder: Path) -> None:
    """Copy the finished jobs, without what names this machine, and say in each that it is recorded."""
    shutil.rmtree(TARGET, ignore_errors=True)
    for path in sorted((folder / "jobs").rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        if len(data) > LARGEST_BYTES:
            sys.exit(f"{path.name} has {len(data)} bytes; the recorded jobs are meant to be small")
        if path.name == "harbor_nb.json":
            owner = json.loads(data) | {"recorded": True, "host": "recorded", "boot_id": "", "pid": None}
            data = json.dumps(owner, indent=1).encode()
        target = TARGET / path.relative_to(folder / "jobs")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            text = data.decode()
            for own in (str(folder), str(ROOT), sys.base_prefix):
                text = text.replace(own, NEUTRAL)
            target.write_text(text)
        except UnicodeDecodeError:
            target.write_bytes(data)


def main() -> None:
    for name in ("DAYTONA_API_KEY", "DAYTONA_JWT_TOKEN", "DAYTONA_ORGANIZATION_ID"):
        os.environ.pop(name, None)  # the recorded failure is the guide's: no key
    with tempfile.TemporaryDirectory(prefix="harbor_nb-record-") as folder:
        record(Path(folder))
        keep(Path(folder))
    import harbor_nb as hb

    print(hb.jobs(TARGET, columns=["job", "environment", "state", "n_trials"]).to_string())


if __name__ == "__main__":
    main()
