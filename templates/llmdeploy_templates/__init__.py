"""The files that llmdeploy writes on machines, as Jinja2 templates."""

from __future__ import annotations

import shlex
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render(name: str, /, **values: object) -> str:
    """The template `name` (a path below this package) with `values` filled in.

    Raises jinja2.UndefinedError for a value that the template uses and the caller left out, and
    jinja2.TemplateNotFound for an unknown name.
    """
    return _environment().get_template(name).render(values)


@cache
def _environment() -> Environment:
    # imported here because most runs of the command line render nothing
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__name__, ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the output is configuration, never HTML
    )
    environment.filters["q"] = lambda value: shlex.quote(str(value))  # everything that goes into a shell script
    return environment
