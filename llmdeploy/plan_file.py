"""A saved plan: one JSON file that holds the whole plan and what it was made from, and refuses to be applied to anything else.

A plan holds references to secrets only, so this file holds none either; it is written 0600 all the same. `UNKNOWN` and `Ref` are
objects with the key `$llmdeploy`; a mapping of the user that has this key is wrapped, so that it is taken for neither.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from . import __version__
from .errors import LlmdeployError, StalePlan
from .pins import FILE_NAME as LOCK_FILE
from .plan import Plan
from .resource import UNKNOWN, Ref, Tree, Unknown, as_mapping, as_sequence
from .secret import write_private
from .state.model import State

FORMAT: Final = 1
"""Version of the file format. It grows when an older llmdeploy could misread a newer file."""
VALID_FOR: Final = timedelta(hours=24)
"""How long a saved plan can be applied."""
_MARK = "llmdeploy_plan"
_HEAD = re.compile(rb'\s*\{\s*"' + _MARK.encode() + b'"')
_TAG = "$llmdeploy"
_AGAIN = "run `llmdeploy plan --out` again"


@dataclass(frozen=True)
class Origin:
    """Where a plan comes from, beyond what it says itself.

    path and beside: the stack file or its folder, seen from the working folder and from the plan file. stack_sha256: of the stack
    file's bytes ("": none was read). state_sha256: see `fingerprint`.
    """

    path: str
    beside: str
    stack_sha256: str
    state_sha256: str


@dataclass(frozen=True)
class SavedPlan:
    """A plan as it was saved. digest: SHA-256 over all of the file's content; writer: the version of llmdeploy that wrote it."""

    plan: Plan
    origin: Origin
    writer: str
    digest: str

    @property
    def id(self) -> str:
        """A short name: the beginning of the digest."""
        return self.digest[:12]


# --- writing ----------------------------------------------------------------------------------------------------------------


def check_target(path: Path) -> None:
    """Refuse a place that no plan can be written to, before anything is planned. An older plan file is overwritten.

    Raises:
        LlmdeployError: there is no such folder, or something else than a plan is there.
    """
    if not path.parent.is_dir():
        raise LlmdeployError(f"cannot write {path}: there is no folder {path.parent}", hint="make it first")
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise LlmdeployError(f"cannot write {path}: it is no file", hint="name a file")
    if path.is_file() and not is_plan_file(path) and path.stat().st_size:
        raise LlmdeployError(f"{path} is there and is no plan: it is not overwritten", hint="name another file, or remove it")


def save(path: Path, plan: Plan, stack: Path, stack_sha256: str, state: State | None) -> SavedPlan:
    """Write `plan` to `path` and return it as saved. stack: the stack file or its folder.

    Raises:
        LlmdeployError: the file cannot be written.
    """
    expires = datetime.fromisoformat(plan.created_at) + VALID_FOR
    plan = replace(plan, expires_at=expires.isoformat(timespec="seconds"))
    origin = Origin(
        path=os.path.relpath(stack),
        beside=os.path.relpath(stack.resolve(), path.parent.resolve()),
        stack_sha256=stack_sha256,
        state_sha256=fingerprint(state),
    )
    content: dict[str, Tree] = {
        _MARK: FORMAT,
        "llmdeploy_version": __version__,
        "origin": _encoded(origin),
        "plan": _encoded(plan),
    }
    digest = _digest(content)
    check_target(path)
    try:
        write_private(path, _text({**content, "sha256": digest}).encode() + b"\n")
    except OSError as error:
        with suppress(OSError):
            path.with_name(f".{path.name}.new").unlink(missing_ok=True)
        raise LlmdeployError(f"cannot write {path}: {error.strerror}", hint="name a file in a folder of yours") from None
    return SavedPlan(plan, origin, __version__, digest)


def fingerprint(state: State | None) -> str:
    """Return a digest of all that a state holds; "" of one that never held anything. Evidence is left out: audits change nothing.

    The serial alone does not tell that a run was killed half-way: what it did is in the journal then.
    """
    if state is None or not (state.serial or state.entries):
        return ""
    return sha256(replace(state, evidence=None).to_json("").encode()).hexdigest()


def _text(content: Mapping[str, Tree]) -> str:
    return json.dumps(content, separators=(",", ":"))


def _digest(content: Mapping[str, Tree]) -> str:
    return sha256(_text(content).encode()).hexdigest()


def _encoded(value: Any) -> Tree:
    if isinstance(value, Unknown):
        return {_TAG: "unknown"}
    if isinstance(value, Ref):
        return {_TAG: "ref", "address": value.address, "output": value.output}
    if isinstance(value, BaseModel):
        return _encoded(value.model_dump(mode="json"))
    if is_dataclass(value):
        return {one.name: _encoded(getattr(value, one.name)) for one in fields(value) if one.init}
    if (mapping := as_mapping(value)) is not None:
        found = {key: _encoded(item) for key, item in mapping.items()}
        return {_TAG: "mapping", "value": found} if _TAG in found else found
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[str]", value))
    sequence = as_sequence(value)
    return value if sequence is None else [_encoded(item) for item in sequence]


def _decoded(value: Tree) -> Tree:
    if (mapping := as_mapping(value)) is not None:
        match mapping.get(_TAG):
            case None:
                return {key: _decoded(item) for key, item in mapping.items()}
            case "unknown":
                return UNKNOWN
            case "ref":
                return Ref(mapping["address"], mapping["output"])
            case _:
                return {key: _decoded(item) for key, item in mapping["value"].items()}
    sequence = as_sequence(value)
    return value if sequence is None else [_decoded(item) for item in sequence]


# --- reading ----------------------------------------------------------------------------------------------------------------


def is_plan_file(path: Path) -> bool:
    """Tell whether `path` is a plan file, whole or not: by what it begins with, not by its name.

    Raises:
        LlmdeployError: it is the JSON view of a plan, which can be looked at and not applied.
    """
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(400)
    except (OSError, ValueError):
        return False
    if b'"format_version"' in head and b'"llmdeploy_version"' in head and head.lstrip().startswith(b"{"):
        raise LlmdeployError(
            f"{path} is JSON made for other programs, not a saved plan", hint="`llmdeploy plan --out FILE` saves a plan"
        )
    return _HEAD.match(head) is not None


def load(path: Path) -> SavedPlan:
    """Read a plan file. Needs no provider and no network.

    Raises:
        LlmdeployError: it cannot be read, is damaged, was changed by hand, or was written by a newer version.
    """
    damaged = LlmdeployError(f"{path} is not a whole plan file: it is truncated or damaged", hint=_AGAIN)
    try:
        content = json.loads(path.read_bytes())
        version, writer, digest = content[_MARK], str(content["llmdeploy_version"]), content.pop("sha256")
    except OSError as error:
        raise LlmdeployError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if version != FORMAT:
        raise LlmdeployError(
            f"{path} was written by llmdeploy {writer} in plan format {version}; this is {__version__}",
            hint=f"use that version, or {_AGAIN}",
        )
    if _digest(content) != digest:
        raise LlmdeployError(f"{path} was changed after it was written: its content does not match its digest", hint=_AGAIN)
    try:
        origin = TypeAdapter(Origin).validate_python(content["origin"])
        plan = TypeAdapter(Plan).validate_python(_decoded(content["plan"]))
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError):
        raise damaged from None
    return SavedPlan(plan, origin, writer, digest)


# --- whether it may be applied ----------------------------------------------------------------------------------------------


def find_stack(saved: SavedPlan, file: Path) -> Path:
    """Return the stack file (or its folder, for a destroy) that `saved` was made from.

    It is looked for from the working folder, then from the plan file's folder; the one with the same content counts.

    Raises:
        StalePlan: it is gone.
    """
    candidates = list(dict.fromkeys(Path(os.path.normpath(p)) for p in (saved.origin.path, file.parent / saved.origin.beside)))
    there = [path for path in candidates if path.exists()]
    if not there:
        looked = " and ".join(str(path) for path in candidates)
        raise StalePlan(
            f"{file} was made from a stack that is not here: looked for {looked} from the folder {Path.cwd()}",
            hint="run this in the folder that the plan was made in, or run `llmdeploy plan --out` here",
        )
    return next((path for path in there if _sha256_of(path) == saved.origin.stack_sha256), there[0])


def check_files(saved: SavedPlan, file: Path, stack: Path, now: datetime | None = None) -> None:
    """Refuse a saved plan that does not belong to the files of today, before the lock is taken. now: UTC.

    Raises:
        StalePlan: another version wrote it, it is too old, or the stack file or its lock file changed.
    """
    plan = saved.plan
    if saved.writer != __version__:
        raise _stale(file, f"it was made by llmdeploy {saved.writer}, and this is {__version__}")
    if (now or datetime.now(UTC)) > datetime.fromisoformat(plan.expires_at):
        raise _stale(file, f"it could be applied until {plan.expires_at}")
    if plan.mode == "destroy":
        return
    if _sha256_of(stack) != saved.origin.stack_sha256:
        raise _stale(file, f"{stack} changed since")
    lock = stack.parent / LOCK_FILE
    if _sha256_of(lock) != plan.lock_sha256:
        raise _stale(file, f"{lock} changed since")


def check_world(saved: SavedPlan, file: Path, state: State | None, account: Mapping[str, str]) -> None:
    """Refuse a saved plan that does not belong to the present state and account. Under the lock.

    The first plan of all knows no lineage: it belongs to any state that never held anything.

    Raises:
        StalePlan: something was applied since, the state is another one, or the provider's calls would go elsewhere.
    """
    plan = saved.plan
    lineage, serial = (state.lineage, state.serial) if state else (None, 0)
    if plan.identity.lineage and lineage != plan.identity.lineage:
        raise _stale(file, f"it belongs to another state (lineage {plan.identity.lineage}, here {lineage or 'none'})")
    if serial != plan.serial:
        raise _stale(file, f"something was applied since (state serial {plan.serial} then, {serial} now)")
    if fingerprint(state) != saved.origin.state_sha256:
        raise _stale(file, "an apply was begun since and did not end")
    for name in sorted({*plan.account, *account}):
        then, now = plan.account.get(name, "unknown"), account.get(name, "unknown")
        if then != now:
            raise _stale(file, f"it was made for another {name} ({then}, here {now})")


def _stale(file: Path, why: str) -> StalePlan:
    return StalePlan(f"{file} is stale: {why}", hint=f"nothing was touched; {_AGAIN}")


def _sha256_of(path: Path) -> str:
    """Return the digest of a file's bytes, "" when there is none."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
