"""For how many days the keeper of a log keeps a line."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from .kernel import Unclear, link, text_of

DAY_S = 86_400


def by_s6(service: str, janitor: str) -> int:
    """Return the days that the janitor was told. Raises Unclear when it does not run: nobody else removes old lines."""
    minutes = text_of(f"{service}/data/retention_minutes").strip()
    if not minutes.isdigit():
        raise Unclear(f"{service}/data/retention_minutes does not say how long lines are kept")
    pid = text_of(f"{janitor}/pid").strip()
    if link(f"/proc/{pid}/cwd") != os.path.realpath(janitor):
        raise Unclear(f"the janitor that removes old log files is not running ({janitor})")
    return math.ceil(int(minutes) * 60 / DAY_S)


def by_journald(settings: str) -> int:
    """Return the days of the journal's own limit; `settings`: its file. Raises Unclear when it has none, or several."""
    name = os.path.basename(settings)
    folders = (f"{settings}.d", f"/run/systemd/{name}.d", f"/usr/lib/systemd/{name}.d")
    files = [Path(settings), *(path for folder in folders for path in sorted(Path(folder).glob("*.conf")))]
    said = [text for file in files for text in re.findall(r"^\s*MaxRetentionSec\s*=\s*(\S*)", text_of(str(file)), re.MULTILINE)]
    days = re.fullmatch(r"(\d+)day", said[0]) if len(said) == 1 else None
    if not days or days[1] == "0":
        raise Unclear(f"its journal does not say how long lines are kept: MaxRetentionSec {' and '.join(said) or 'is not set'}")
    return int(days[1])
