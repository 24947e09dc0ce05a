"""Pick where trials run, knowing what is ready, why not, and what mends it."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import ipywidgets as ipw
import traitlets as t

from harbor_nb._display import render
from harbor_nb.backends.catalog import RECORDS, environments, record
from harbor_nb.backends.readiness import check
from harbor_nb.widgets.parts import Panel, call, wrap


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
        self._found: dict[str, Any] = {}
        self._list = ipw.VBox().add_class("hnb-envs")
        self._more = ipw.Accordion([ipw.VBox().add_class("hnb-envs")], titles=["More that Harbor knows"])
        live = self._button("Check live", "Ask the engine or the vendor's API now", self.check_live)
        again = self._button("Refresh", "Look again at what is installed and set", self.refresh)
        self._guide = ipw.HTML()
        super().__init__(self._list, self._more, self._guide, wrap(live, again))
        self._more.observe(lambda change: change["new"] == 0 and self._behind(self._show_others), "selected_index")
        self.value = tuple(value)
        self.refresh()

    def refresh(self) -> None:
        """Look again at what is installed and which keys are set."""
        names = list(dict.fromkeys((*RECORDS, *self._found, *self.value)))
        with ThreadPoolExecutor() as pool:
            self._found = dict(zip(names, pool.map(check, names), strict=True))
        self._list.children = [self._row(name) for name in names]
        self._stills = [self._facts[name] for name in names]
        self._guide.value = render("widgets_environment_guide", records=RECORDS.values())
        self._show_choice()

    def _show_others(self) -> None:
        """Ask Harbor's own check of every other environment: some seconds, so only when they are wanted."""
        self._more.children[0].children = [ipw.Label("Asking Harbor …")]
        rows = [row for row in environments().itertuples() if row.name not in self._found]
        others = {str(row.name): row for row in rows}
        self._found |= others
        self._more.children[0].children = [self._row(name) for name in others]

    def check_live(self) -> None:
        """Ask the engines and vendors of the chosen environments, side by side, without blocking the kernel."""
        self._show_code("; ".join(call("check", name, live=True) for name in self.value))
        for name in self.value:
            self._draw(name, state="checking")
            self._behind(partial(self._ask, name))

    def _ask(self, name: str) -> None:
        self._found[name] = check(name, live=True)
        self._draw(name)
        self._update_snapshot()

    def _row(self, name: str) -> ipw.HBox:
        if name not in self._boxes:
            box = ipw.Checkbox(description=name, indent=False, value=name in self.value)
            box.observe(lambda change, name=name: self._toggle(name, change["new"]), "value")
            self._boxes[name], self._facts[name] = box, ipw.HTML()
        self._draw(name)
        return ipw.HBox([self._boxes[name], self._facts[name]]).add_class("hnb-env")

    def _draw(self, name: str, state: str | None = None) -> None:
        told = {"record": record(name), "found": self._found[name], "state": state}
        self._facts[name].value = render("widgets_environment", **told)

    def _toggle(self, name: str, on: bool) -> None:
        others = tuple(other for other in self.value if other != name) if self._multiple else ()
        self.value = (*others, name) if on else tuple(other for other in self.value if other != name)

    @t.observe("value")
    def _show_choice(self, _: Any = None) -> None:
        for name, box in self._boxes.items():
            box.value = name in self.value
        self._show_code("; ".join(call("check", name) for name in self.value) or call("environments"))
