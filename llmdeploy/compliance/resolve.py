"""From the profiles of a stack file to its policy: what is in force, what is forced, and what contradicts."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Diagnostics
from ..policy import Demand, Forced, Policy, Residency
from ..stack.model import Stack
from .controls import CONTROLS
from .controls.keys import KEY_DAYS
from .profiles import PROFILES, RESIDENCY, demanded_by

_RETENTION = {"pci-dss": "RET-02", "eu-ai-act": "AIA-02"}
"""The control with which a profile keeps log lines for a least number of days."""


def resolve(stack: Stack) -> Policy:
    """Return what the stack's profiles force together. The order of the profiles never matters.

    Raises:
        StackError: two controls, or a control and the stack file, contradict each other; with the place in the stack file.
    """
    asked = stack.compliance
    residency: Residency | None = asked.residency or ("eu" if "gdpr" in asked.profiles else None)
    demanded = demanded_by(asked.profiles, residency=residency is not None)
    named = tuple(sorted(set(asked.profiles) - {"none"}))
    demands = tuple(
        Demand(name, profiles, CONTROLS[name].demand, strict=bool(profiles) or name in RESIDENCY)
        for name, profiles in demanded.items()
    )
    log_days = _log_days(stack, named)
    return Policy(
        profiles=named,
        demands=demands,
        forced=tuple(_forced(stack, demanded, log_days[0])),
        residency=residency,
        log_days=log_days,
        endpoints={host: one.place for host, one in asked.endpoints.items()},
        conditions=tuple(sorted(set(asked.attest.adequacy_conditions))),
    )


def _log_days(stack: Stack, profiles: tuple[str, ...]) -> tuple[int | None, int | None]:
    """Return the least and the most days that log lines are kept. Raises StackError when no number lies between.

    A number that is written down is the most as well: some services keep records for some numbers of days only.
    """
    least = max((days for name in profiles if (days := PROFILES[name].log_days)), default=None)
    most, written = stack.logs.max_days, "retention_days" in stack.logs.model_fields_set
    found = Diagnostics()
    if least and most is not None and most < least:
        found.items.append(_contradiction(profiles, least, "logs.max_days", f"RET-01 keeps them at most {most} days"))
    elif least and written and stack.logs.retention_days < least:
        sentence = f"RET-01 keeps them {stack.logs.retention_days} days"
        found.items.append(_contradiction(profiles, least, "logs.retention_days", sentence))
    elif most is not None and written and stack.logs.retention_days > most:
        sentence = f"log lines are kept {stack.logs.retention_days} days, and logs.max_days allows {most}"
        found.error(sentence, path="logs.retention_days", hint="make one of them fit the other")
    found.raise_if_errors()
    return least, most if most is not None else stack.logs.retention_days if written else None


def _contradiction(profiles: tuple[str, ...], least: int, path: str, other: str) -> Diagnostic:
    name = next(name for name in profiles if PROFILES[name].log_days == least)
    sentence = f"{_RETENTION[name]} ({name}) keeps log lines at least {least} days, {other}: they contradict"
    return Diagnostic("error", sentence, None, path, f"keep them {least} days or longer, or give up one of the two")


def _forced(stack: Stack, demanded: dict[str, tuple[str, ...]], least: int | None) -> Iterator[Forced]:
    if "retention_days" not in stack.logs.model_fields_set:
        days = max(least or 0, min(stack.logs.retention_days, stack.logs.max_days or stack.logs.retention_days))
        if days != stack.logs.retention_days:
            control = next((_RETENTION[n] for n, p in PROFILES.items() if least and p.log_days == least), "RET-01")
            yield Forced(control, "logs.retention_days", days)
    if "KEY-04" in demanded and any(key.max_age_days is None for key in stack.keys):
        yield Forced("KEY-04", "keys[].max_age_days", KEY_DAYS)
