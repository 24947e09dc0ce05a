"""What every widget is made of: a panel with a title and its line of Python, a long table, a field for a secret."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as ipw
import traitlets as t
from markupsafe import Markup

from harbor_nb._display import clean, render
from harbor_nb.errors import HarborNbError

_HERE = Path(__file__).parent
_STYLE = f"<style>{(_HERE / 'theme.css').read_text(encoding='utf-8')}</style>"


class Secret(anywidget.AnyWidget):
    """A field for a name and a secret; the value passes through in one message and is in no state."""

    _esm = _HERE / "secret.js"
    names = t.List(t.Unicode()).tag(sync=True)
    name = t.Unicode("").tag(sync=True)


class Pulse(anywidget.AnyWidget):
    """The time of the picture; in the browser it turns *stale* once the kernel is heard no more."""

    _esm = _HERE / "pulse.js"
    as_of = t.Unicode("").tag(sync=True)
    final = t.Bool(False).tag(sync=True)

    def beat(self, final: bool = False) -> None:
        """Say that the kernel lives and the picture is of now."""
        self.final = final
        self.as_of = datetime.now().astimezone().strftime("%H:%M:%S")


class Panel(ipw.VBox):
    """A titled box. What a button does, one public call does, and the line `code` shows it."""

    title = ""
    about = ""
    _turn = 0
    _stills: Sequence[Any] = ()  # the parts that the static picture shows, each with its HTML as `value`

    def __init__(self, *children: ipw.Widget) -> None:
        self._lock = threading.Lock()
        self._code = ipw.HTML()
        self._says = ipw.HTML()
        style = ipw.HTML(_STYLE, layout={"display": "none"})
        heading = ipw.HTML(render("widgets_title", title=self.title, about=self.about))
        for part, name in ((self._says, "hnb-status"), (heading, "hnb-title")):
            part.add_class(name)
        super().__init__([style, heading, *children, self._says, self._code])
        self.add_class("hnb-panel")

    @property
    def code(self) -> str:
        """The line of Python that does the same."""
        return str(getattr(self, "_line", ""))

    def _show_code(self, line: str) -> None:
        self._line = clean(line)
        self._code.value = render("widgets_code", code=line)

    def _say(self, text: str, kind: str = "note") -> None:
        self._says.value = render("widgets_says", text=text, kind=kind)

    def _button(self, text: str, tooltip: str, work: Callable[[], Any], **style: Any) -> ipw.Button:
        """Make a button that does `work` in a thread."""
        made = ipw.Button(description=text, tooltip=tooltip, **style)
        made.on_click(lambda _: self._behind(work))
        return made

    def _follow(self, work: Callable[[], Any], *fields: ipw.Widget) -> None:
        """Do `work` in a thread when one of the fields changes."""
        for field in fields:
            field.observe(lambda _: self._behind(work), "value")

    def _next(self, *fields: ipw.Widget) -> tuple[int, list[Any]]:
        """Number a redrawing and read its settings at once, so that of several the newest wins."""
        with self._lock:
            self._turn += 1
            return self._turn, [field.value for field in fields]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell an error in the panel: the end of a thread would be silent, and a traceback is for no reader of it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as above
            kind = "" if isinstance(error, HarborNbError) else f"{type(error).__name__}: "
            self._say(f"{kind}{error}", "error")

    def _behind(self, work: Callable[[], Any]) -> threading.Thread:
        """Do `work` in a thread, so that the kernel stays free; an error is told in the panel."""

        def run() -> None:
            with self._telling():
                work()

        thread = threading.Thread(target=run, daemon=True, name=f"harbor_nb {type(self).__name__}")
        thread.start()
        return thread

    def snapshot(self) -> str:
        """Return the state as static HTML, for front ends without widgets and for the saved notebook."""
        parts = [Markup(part.value) for part in self._stills]  # noqa: S704 - made by our templates, which escape
        return render("widgets_snapshot", title=self.title, as_of=_now(), about=self.about, parts=parts, code=self.code)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {clean(self.code, 400)}>"

    def _repr_markdown_(self) -> str:
        return f"**{self.title}** as of {_now()}: {self.about}\n\n    {clean(self.code, 2000)}"

    def _repr_html_(self) -> str:
        return self.snapshot()

    def _view(self) -> dict[str, Any]:
        model = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {"text/plain": repr(self), "application/vnd.jupyter.widget-view+json": model}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {**self._view(), "text/html": self.snapshot(), "text/markdown": self._repr_markdown_()}

    def _ipython_display_(self) -> None:
        # The picture is an output of its own: where the widget lives its style hides the picture, and where its
        # model is gone (kernel restarted, exported, no widgets) the picture is what remains.
        from IPython.display import display

        display(self._view(), raw=True)
        self._handle = display(self._still(), raw=True, display_id=True)

    def _still(self) -> dict[str, str]:
        return {"text/html": self.snapshot(), "text/plain": f"{self.title} as of {_now()}"}

    def _update_snapshot(self) -> None:
        if handle := getattr(self, "_handle", None):
            handle.update(self._still(), raw=True)


class TrialsPanel(Panel):
    """A panel over trials that are read once, and looked at in many ways."""

    def __init__(self, trials: Any, *children: ipw.Widget) -> None:
        self._source: Any = trials
        self._all: Any = None
        super().__init__(*children)
        if trials is not None:
            self.show(trials)

    def show(self, trials: Any) -> None:
        """Show other trials from now on."""
        from harbor_nb.results.frames import trials as read

        self._source, given = trials, hasattr(trials, "columns")
        with self._telling():
            self._all = trials if given else read(trials)
            self._opened()
            self.refresh()

    def refresh(self) -> None:
        """Draw anew with the settings as they stand."""

    def _opened(self) -> None:
        """Take over what the trials offer to choose from."""

    @property
    def _trials_code(self) -> "Code":
        """What stands for the trials in a line of Python, in which a frame is `trials`."""
        return Code("trials" if hasattr(self._source, "columns") else literal(self._source))


def wrap(*children: ipw.Widget) -> ipw.HBox:
    """Return fields and buttons side by side, wrapped where the window is narrow."""
    return ipw.HBox(children).add_class("hnb-wrap")


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


class Code(str):
    """Python that stands for itself in a line."""

    __slots__ = ()


def literal(value: Any) -> str:
    """Return a value as a person in this folder would type it in Python."""
    if isinstance(value, Code):
        return value
    if isinstance(value, os.PathLike):
        value = os.fspath(value).removeprefix(f"{Path.cwd()}{os.sep}")
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Sequence):
        inner = ", ".join(literal(item) for item in value)
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    return repr(value)


def call(function: str, *positional: Any, **keywords: Any) -> str:
    """Return the line `harbor_nb.function(...)`; keywords that are None are left out.

    Example:
        >>> call("check", "docker", live=True)
        'harbor_nb.check("docker", live=True)'
    """
    parts = [literal(value) for value in positional]
    parts += [f"{name}={literal(value)}" for name, value in keywords.items() if value is not None]
    return f"harbor_nb.{function}({', '.join(parts)})"
