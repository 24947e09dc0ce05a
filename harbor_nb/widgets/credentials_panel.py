"""See which keys are set and from where, paste one, save it, and try it."""

import os
from typing import Any

import ipywidgets as ipw

from harbor_nb._display import render
from harbor_nb._redaction import redactor
from harbor_nb.backends.catalog import RECORDS
from harbor_nb.backends.readiness import check
from harbor_nb.credentials import load_env, save_env
from harbor_nb.errors import CredentialsError
from harbor_nb.widgets.parts import Panel, Secret, call, wrap


class CredentialsPanel(Panel):
    """Which keys are set and where each comes from; paste one, save it to `.env`, check it live.

    A typed value goes to the kernel in one message. It is in no widget's state, so no saved notebook can hold it.

    Args:
        path: the `.env` file; found from the notebook's folder upward by default.

    Example:
        >>> panel = CredentialsPanel()  # doctest: +SKIP
    """

    title = "Credentials"
    about = "Names and origins only: a value is never shown, and never part of the notebook."

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = path
        self._table = ipw.HTML()
        self._stills = [self._table]
        cloud = {name: record for name, record in RECORDS.items() if record.credentials}
        names = {name for record in cloud.values() for group in record.credentials for name in group}
        names |= {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"}
        first = next((name for record in cloud.values() for name in record.missing()), "")
        self._secret = Secret(names=sorted(names), name=first)
        self._secret.on_msg(self._typed)
        load = self._button("Load .env", "Load the .env file again", self.refresh)
        live = self._button("Check live", "Try the keys of the chosen environment now", self.check_live)
        self._which = ipw.Dropdown(description="Environment", options=list(cloud))
        self._answer = ipw.HTML()
        super().__init__(self._table, self._secret, wrap(load, self._which, live), self._answer)
        self.refresh()

    def refresh(self) -> None:
        """Load the `.env` file again and show what is in force."""
        self._show_code(call("load_env", *([str(self._path)] if self._path else [])))
        try:
            self._table.value = load_env(self._path)._repr_html_()
        except CredentialsError as error:
            self._table.value = render("widgets_says", text=str(error), kind="note")

    def check_live(self) -> None:
        """Try the chosen environment's keys against the vendor now."""
        name = self._which.value
        self._show_code(call("check", name, live=True))
        self._say(f"Asking {name} …")
        self._answer.value = check(name, live=True)._repr_html_()
        self._say("")

    def _typed(self, _: Any, message: dict[str, Any], __: Any) -> None:
        name, value = str(message.get("name", "")).strip(), str(message.pop("value", "") or "").strip()
        with self._telling():
            if not name.isidentifier() or not value:
                raise CredentialsError("Give a name such as DAYTONA_API_KEY, and a value.")
            redactor.remember(name, value)
            if message.get("action") == "save":
                said = f"{os.path.relpath(save_env({name: value}, self._path))} and in this session"
                line = f'harbor_nb.save_env({{"{name}": getpass()}}); harbor_nb.load_env()'
            else:
                os.environ[name] = value
                said, line = "this session, until the kernel ends; not in a file", f'os.environ["{name}"] = getpass()'
            self.refresh()
            self._show_code(line)
            self._say(f"{name} is in {said}.", "done")
