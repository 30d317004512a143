"""The engine's own word on the size of its KV cache, beside what the plan predicted. Pure.

A metric is named as `name{label}`: the sample `name` of the engine's metrics page carries the figure in its label `label`.
"""

from __future__ import annotations

import re
from typing import Final

from ._scripts import render

FACT: Final = "kv_cache"
"""Key of the fact that `metric_script` prints."""

_TOLERANCE_PERCENT: Final = 5


def metric_script(socket: str, metric: str) -> str:
    """Return the fragment that prints the sample of `metric` from the engine's metrics page; nothing when it has none."""
    return render("engine_metric.sh.j2", fact=FACT, socket=socket, sample=metric.partition("{")[0] + "{") if metric else ""


def reported_tokens(sample: str, metric: str) -> int | None:
    """Return the figure in a sample, which is one line of a metrics page; None when it is not there or is no whole number."""
    name, _, label = metric.rstrip("}").partition("{")
    if not sample.startswith(f"{name}{{"):
        return None
    # A label's value may hold whatever it likes, with quotes and backslashes escaped: other labels are read whole, and skipped.
    labels = {found[1]: found[2] for found in re.finditer(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"', sample)}
    value = labels.get(label, "")
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else None


def judge(predicted: int, reported: int | None) -> tuple[bool, str]:
    """Return whether the engine has the KV cache that the plan promised, and a sentence where it does not come out so.

    A shortfall of more than 5 % is not well: the requests that the stack file asks for no longer fit at once. More than was
    promised harms nobody, and is told because the next plan would be as wrong. predicted: 0 when nobody did; reported: None when
    the engine does not tell.
    """
    if not predicted:
        return True, ""
    if reported is None:
        return True, f"the engine does not tell the size of its KV cache: the {predicted:,} tokens of the plan are not confirmed"
    miss = reported - predicted
    if 100 * abs(miss) <= _TOLERANCE_PERCENT * predicted:
        return True, ""
    figures = f"the engine reports {reported:,} tokens of KV cache, the plan predicted {predicted:,}"
    percent = f"{100 * abs(miss) / predicted:.1f} %"
    if miss > 0:
        return True, f"{figures} ({percent} more): more requests of full length run at once than planned"
    return False, (
        f"{figures} ({percent} less): fewer requests of full length run at once than planned, the others wait; "
        "lower model.context or model.concurrency, or take a machine with more memory"
    )
