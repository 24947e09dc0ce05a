"""One trial of a job, and the ends of its log files."""

from pathlib import Path

from harbor_nb._display import Shown, clean
from harbor_nb.errors import JobError
from harbor_nb.running import evidence

_TAIL_BYTES = 200_000


def tail(path: Path, lines: int) -> str:
    """Give the last lines of a file that may be huge, fit to be shown."""
    found = evidence.tail(path, _TAIL_BYTES).splitlines()
    return "\n".join(clean(line, 2000) for line in found[-lines:])


class Trial(Shown):
    """One trial of a job, by its name."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name

    def __fspath__(self) -> str:
        return str(self.path)

    def log(self, kind: str = "trial", lines: int = 100) -> str:
        """Give the last lines of what was logged.

        Args:
            kind: `trial` (Harbor's own log), `agent` or `verifier` (the newest text file there).
            lines: how many.

        Returns:
            Text without control characters; empty while there is none.

        Raises:
            JobError: there is no such kind.

        Example:
            >>> attach("jobs/first").trial("hello-world__abc").log("agent")  # doctest: +SKIP
        """
        if kind not in ("trial", "agent", "verifier"):
            raise JobError(f"no log {kind!r}; ask for 'trial', 'agent' or 'verifier'")
        if kind == "trial":
            return tail(self.path / "trial.log", lines)
        home, folders = self.path.resolve(), self.path.glob(f"**/{kind}/**/")
        # a link that an agent left could show any file of this user
        found = [one for place in folders if place.resolve().is_relative_to(home) for one in evidence.newest(place)]
        newest = max(found, key=lambda file: (file.stat().st_mtime, file.name), default=self.path / kind)
        return tail(newest, lines)

    def __repr__(self) -> str:
        return f"Trial({clean(self.name)})"
