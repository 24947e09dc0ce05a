"""Templates and safe text: what an agent wrote is hostile, what a person loaded is secret."""

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from harbor_nb._redaction import redact

if TYPE_CHECKING:
    import jinja2

_TERMINAL = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[\[()#;?]*(?:[0-9]{1,4}(?:;[0-9]{0,4})*)?[0-9A-ORZcf-nqry=><]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def clean(text: object, limit: int | None = None) -> str:
    """Return text without terminal and direction control characters, redacted, cut at `limit` characters."""
    result = redact(_TERMINAL.sub("", str(text)))
    if limit is not None and len(result) > limit:
        result = result[: limit - 1] + "…"
    return result


class Shown:
    """The text of an object as HTML and markdown, for front ends that show nothing richer."""

    def _repr_html_(self) -> str:
        return render("widgets_log", name=type(self).__name__, text=clean(repr(self), 10_000))

    def _repr_markdown_(self) -> str:
        lines = clean(repr(self), 10_000).splitlines()  # indented: no text can close the block
        return "\n".join(f"    {line}" for line in lines)


@cache
def _templates() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harbor_nb", "widgets/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
    environment.filters["clean"] = clean
    return environment


def render(template: str, **values: Any) -> str:
    """Return the HTML of `widgets/templates/<template>.html.j2`; every value is escaped and redacted."""
    return _templates().get_template(f"{template}.html.j2").render(**values)
