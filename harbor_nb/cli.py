"""The command line `harbor-nb`: thin over the library."""

import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harbor_nb.errors import HarborNbError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The notebook face of Harbor."
)
_PACKAGES = "harbor harbor-nb pandas ipywidgets ipykernel jupyterlab docker daytona e2b modal".split()


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the report, the chart and the jobs.")] = Path("demo"),
    environment: Annotated[list[str] | None, typer.Option("--environment", "-e", help="Where to run.")] = None,
    tasks: Annotated[Path | None, typer.Option(help="A task or dataset folder.")] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Trials of each agent on each task.")] = 1,
) -> None:
    """Run real jobs here and now; ends with a table and a report."""
    from harbor_nb.demo import run_demo

    run_demo(output, environment or (), tasks, attempts)


@app.command()
def doctor(
    live: Annotated[bool, typer.Option(help="Ask the engines and the vendors' APIs too.")] = False,
) -> None:
    """Say what can run here: environments, credentials, kernel, versions. Exit 1 if no environment is ready."""
    from harbor_nb.backends.catalog import RECORDS, environments, sdk_version
    from harbor_nb.backends.readiness import check
    from harbor_nb.credentials import load_env

    print(f"Python {platform.python_version()} on {platform.system()} {platform.release()}")
    for package in _PACKAGES:
        print(f"  {package} {sdk_version(package) or 'is not installed'}")
    try:
        from jupyter_client.kernelspec import find_kernel_specs

        print(f"Kernels: {', '.join(sorted(find_kernel_specs())) or 'none'}")
    except ImportError:
        print("Kernels: none; pip install 'harbor-nb[notebook]'")
    try:
        print(f"\nCredentials\n{load_env()}")
    except HarborNbError as error:
        print(f"\nCredentials: {error}")
    print("\nEnvironments")
    rows: list[Any] = [check(name, live=True) for name in RECORDS] if live else [*environments().itertuples()]
    for row in rows:
        told = f": {row.reason}; {row.fix}" if row.reason else ""
        print(f"  {('looks ready' if told else 'ready') if row.ready else 'not ready':11} {row.name}{told}")
    raise typer.Exit(0 if any(row.ready for row in rows) else 1)


@app.command()
def lab(
    folder: Annotated[Path, typer.Argument(help="Where the lessons are copied to.")] = Path("harbor-lessons"),
    start: Annotated[bool, typer.Option(help="Start JupyterLab there.")] = True,
) -> None:
    """Copy the lessons to a folder and open JupyterLab there; files that are there already stay as they are."""
    from harbor_nb.samples import copy_lessons

    copy_lessons(folder)
    print(f"The lessons are in {folder}")
    if start:
        os.chdir(folder)
        as_root = ["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []  # usual in a container
        os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *as_root])  # noqa: S606 - Ctrl-C and signals reach it


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A job folder, or a jobs folder when it stands alone.")],
    b: Annotated[str | None, typer.Argument(help="Another job folder.")] = None,
    by: Annotated[str | None, typer.Option(help="environment, agent, model or job.")] = None,
    baseline: Annotated[str | None, typer.Option(help="What the others are compared with; A by default.")] = None,
    margin: Annotated[float, typer.Option(help="The largest difference in reward that counts as none.")] = 0.05,
) -> None:
    """Compare two jobs, or the environments in a folder of jobs, and say the verdict."""
    from harbor_nb.results.comparison import compare as compare_trials

    by = by or ("job" if b else "environment")
    if b and by == "job":
        baseline = baseline or Path(a).resolve().name
    print(compare_trials([a, b] if b else a, by=by, baseline=baseline, margin=margin))


@app.command()
def diagnose(job: Annotated[str, typer.Argument(help="A job folder, or a folder of jobs.")]) -> None:
    """Say why trials failed, whose fault it was, and what mends it."""
    from harbor_nb.running.diagnosis import diagnose as diagnose_job

    print(diagnose_job(job))


def main() -> None:
    """Run the command line; an error that harbor_nb raises on purpose, or the disk's, is one line and exit code 2."""
    try:
        app()
    except (HarborNbError, OSError) as error:
        said = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
        print(f"harbor-nb: {said}", file=sys.stderr)
        sys.exit(2)
