"""Pick where trials run, knowing what is ready, why not, and what mends it."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import ipywidgets as ipw
import traitlets as t

from harbor_nb._display import render
from harbor_nb.widgets.parts import Panel, call

FIRST = ("local", "docker", "daytona", "e2b", "modal", "runloop")


class EnvironmentPicker(Panel):
    """The environments with their readiness, to choose one or several from; the trait `value` holds the choice.

    Args:
        value: the names chosen at first.
        multiple: whether several may be chosen.

    Example:
        >>> picker = EnvironmentPicker(value=["local"])
        >>> picker.value
        ('local',)
    """

    title = "Environments"
    about = "Where trials run. Pick one, or several to compare."
    value: Any = t.Tuple(help="The chosen names.")

    def __init__(self, value: Iterable[str] = ("local",), multiple: bool = True) -> None:
        self._multiple = multiple
        self._boxes: dict[str, ipw.Checkbox] = {}
        self._facts: dict[str, ipw.HTML] = {}
        self._records: dict[str, dict[str, Any]] = {}
        self._list = ipw.VBox().add_class("hnb-envs")
        self._more = ipw.Accordion(children=[ipw.VBox().add_class("hnb-envs")], selected_index=None)
        self._live = ipw.Button(description="Check live", tooltip="Ask the engine or the vendor's API now")
        self._again = ipw.Button(description="Refresh", tooltip="Look again at what is installed and set")
        self._guide = ipw.HTML()
        buttons = ipw.HBox([self._live, self._again]).add_class("hnb-wrap")
        super().__init__(self._list, self._more, self._guide, buttons)
        self._live.on_click(lambda _: self.check_live())
        self._again.on_click(lambda _: self._behind(self.refresh))
        self.value = tuple(value)
        self.refresh()

    def refresh(self) -> None:
        """Look again at what is installed and which keys are set."""
        from harbor_nb.backends.catalog import environments

        frame = environments()
        frame = frame.astype(object).where(frame.notna(), None)
        records: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]  # its keys are names
        self._records = {record["name"]: record | {"live": False} for record in records}
        order = [name for name in FIRST if name in self._records]
        order += [name for name in self._records if name not in FIRST]
        rows = {name: self._row(name) for name in order}
        self._list.children = [row for name, row in rows.items() if name in FIRST]
        others = [row for name, row in rows.items() if name not in FIRST]
        self._more.children[0].children = others
        self._more.set_title(0, f"{len(others)} more that the installed Harbor knows")
        self._more.layout.display = "" if others else "none"
        self._guide.value = render("widgets_environment_guide", records=[self._records[n] for n in order if n in FIRST])
        self._show_choice()

    def check_live(self) -> None:
        """Ask the engines and vendors of the chosen environments, side by side, without blocking the kernel."""
        from harbor_nb.backends.readiness import check

        self._show_code("; ".join(call("check", name, live=True) for name in self.value))
        for name in self.value:
            self._draw(name, state="checking")

            def done(readiness: Any, name: str = name) -> None:
                record = self._records[name]
                record.update(ready=readiness.ready, reason=readiness.reason, fix=readiness.fix, live=True)
                self._draw(name)
                self._update_snapshot()

            self._behind(partial(check, name, live=True), done)

    def _row(self, name: str) -> ipw.HBox:
        if name not in self._boxes:
            box = ipw.Checkbox(description=name, indent=False, value=name in self.value)
            box.observe(lambda change, name=name: self._toggle(name, change["new"]), "value")
            self._boxes[name], self._facts[name] = box, ipw.HTML()
        self._draw(name)
        return ipw.HBox([self._boxes[name], self._facts[name]]).add_class("hnb-env")

    def _draw(self, name: str, state: str | None = None) -> None:
        record = self._records[name]
        ready = "ready" if record.get("ready") else "not ready"
        self._facts[name].value = render("widgets_environment", record=record, state=state or ready)

    def _toggle(self, name: str, on: bool) -> None:
        others = tuple(other for other in self.value if other != name) if self._multiple else ()
        self.value = (*others, name) if on else tuple(other for other in self.value if other != name)

    @t.observe("value")
    def _show_choice(self, _: Any = None) -> None:
        for name, box in self._boxes.items():
            box.value = name in self.value
        self._show_code("; ".join(call("check", name) for name in self.value) or call("environments"))

    def _picture(self) -> dict[str, Any]:
        rows = [
            [name, "ready" if r.get("ready") else "not ready", r.get("reason"), r.get("fix")]
            for name, r in self._records.items()
            if name in FIRST or name in self.value
        ]
        chosen = f"Chosen: {', '.join(self.value) or 'none'}"
        return {"columns": ["environment", "readiness", "reason", "fix"], "rows": rows, "text": chosen}

    def __repr__(self) -> str:
        return f"EnvironmentPicker(value={list(self.value)})"
