"""`llmdeploy version`."""

from __future__ import annotations

from .. import __version__
from ..views.document import dumps
from .options import Format, FormatOption, say, verb

app = verb()


@app.command()
def version(format: FormatOption = Format.HUMAN) -> None:
    """Print the version."""
    say(dumps({"llmdeploy_version": __version__}) if format is Format.JSON else f"llmdeploy {__version__}")
