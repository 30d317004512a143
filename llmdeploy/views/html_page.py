"""What every HTML page shares: how its template is filled in.

A page asks for nothing outside itself and runs no script; its own policy forbids both. Every text that goes into it is escaped,
and what cannot be seen is made visible. The same values give the same bytes, all of them ASCII.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from .visible import printable, visible

if TYPE_CHECKING:
    from jinja2 import Environment

_CUT = 2_000


def rendered(template: str, **values: object) -> str:
    """Return the page that a template of this package makes of the values. Texts are cut after 2,000 characters."""
    text = _environment().get_template(template).render(**values)
    return text.strip().encode("ascii", "xmlcharrefreplace").decode()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("llmdeploy.views", ""),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(item: object) -> object:
    """Make visible what is not to be seen, in every text that comes into the page; what is HTML already stays."""
    if not isinstance(item, str) or hasattr(item, "__html__"):
        return item
    return visible(printable(item if len(item) <= _CUT else f"{item[:_CUT]}..."))
