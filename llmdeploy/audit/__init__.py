"""The audit: asks what exists how it is, judges it by the stack's profiles, and keeps the evidence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from .. import __version__, chain, pins
from ..backend import place_of
from ..compliance import Subject
from ..compliance.live import Result, Seen, judge
from ..compliance.report import Report
from ..errors import LlmdeployError, StateError
from ..policy import Policy
from ..resource import Tree, as_mapping, as_sequence
from ..sdk import Run
from ..stack.load import Loaded
from ..state.local import STATE_FOLDER
from ..state.lock import LockInfo
from ..state.model import Evidence, State
from ..workflow import Project
from .probes import Probed, now, probe_all
from .state_probe import probe_state

_FOLDER = "evidence"
_LONGEST_REASON = 1_000
_REFERENCE = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:[^\x00-\x1f]+)\Z")
_SECRET_NAME = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSPHRASE|KEY)\Z")

Progress = Callable[[str], None]


def audit(project: Project, loaded: Loaded, policy: Policy, state: State, run: Run, progress: Progress) -> Report:
    """Probe everything that exists, judge it, write the evidence file, and keep its head in the state. Only under the lock.

    progress: gets a few words on what is being asked, from several threads. A probe that fails is a reason, not the end.

    Raises:
        StateError: nothing exists, the stack file is another stack's, or the state cannot be written.
        LlmdeployError: the evidence cannot be written.
        Interrupted: the user stopped it; nothing was written.
    """
    if not state.entries:
        raise StateError(f'nothing exists of the stack "{state.stack}": there is nothing to audit', hint="llmdeploy apply")
    if loaded.stack.name != state.stack:
        raise StateError(
            f'this folder holds the state of the stack "{state.stack}"; the stack file is named "{loaded.stack.name}"',
            hint="name the stack file that it was applied from: its profiles are what an audit judges by",
        )
    began = _begun(loaded, policy, state)
    clean = chain.Redactor(_secrets(loaded, state, run))
    found = probe_all(project.types(state), state, run, progress)
    found.append(probe_state(project.folder, state, place_of(loaded.stack)))
    cleaned = [_cleaned(one, clean) for one in found]
    results = judge([one.seen for one in cleaned], Subject(loaded.stack, policy))
    report = replace(
        began,
        finished_at=_now(),
        resources=len(cleaned),
        observations=sum(len(one.seen.observations) for one in cleaned),
        hosts=tuple(sorted({told.host for one in cleaned for told in one.seen.observations})),
        results=results,
    )
    return _kept(project, state, report, cleaned)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _begun(loaded: Loaded, policy: Policy, state: State) -> Report:
    me, lock = LockInfo.mine("audit"), loaded.folder / pins.FILE_NAME
    return Report(
        stack=state.stack,
        lineage=state.lineage,
        serial=state.serial,
        profiles=policy.profiles,
        who=me.who,
        run_url=me.run_url,
        started_at=_now(),
        finished_at="",
        stack_sha256=loaded.file_sha256,
        lock_sha256=sha256(lock.read_bytes()).hexdigest() if lock.exists() else "",
        resources=0,
        observations=0,
        hosts=(),
        results=(),
        previous=state.evidence.head if state.evidence else chain.START,
    )


# --- what must not be written down ------------------------------------------------------------------------------------------


def _secrets(loaded: Loaded, state: State, run: Run) -> Iterator[bytes]:
    """Yield the secrets that a probe could meet: those that the stack refers to, llmdeploy's own, and those of this process."""
    entries = [{"spec": one.spec, "config": one.provider_config, "deposed": [old.spec for old in one.deposed]} for one in
               state.entries.values()]  # fmt: skip
    trees: list[Tree] = [loaded.stack.model_dump(mode="json", exclude={"provider"}), *entries]
    for reference in sorted({text for tree in trees for text in _texts(tree) if _REFERENCE.match(text)}):
        with suppress(LlmdeployError):  # what cannot be read here, no probe of this run can print
            yield run.secret(reference).reveal()
    for folder in ("secrets", "keys"):
        for path in sorted((run.folder / STATE_FOLDER / folder).glob("*")):
            with suppress(OSError):
                content = path.read_bytes()
                yield from (content, content.strip())
    yield from (value.encode() for name, value in sorted(run.environ.items()) if _SECRET_NAME.search(name))


def _texts(tree: Tree) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif (mapping := as_mapping(tree)) is not None:
        for value in mapping.values():
            yield from _texts(value)
    else:
        for value in as_sequence(tree) or ():
            yield from _texts(value)


def _cleaned(one: Probed, clean: chain.Redactor) -> Probed:
    """Return what was seen, without secrets: before it is judged, so that no result can hold one either."""
    told = tuple(
        seen.model_copy(
            update={
                "value": clean.tree(seen.value),
                "host": clean.text(seen.host),
                "command": clean.text(seen.command),
                "output": clean.text(seen.output),
                "reason": _sentence(clean.text(seen.reason)),
            }
        )
        for seen in one.seen.observations
    )
    seen = Seen(one.seen.address, one.seen.planned, told, _sentence(clean.text(one.seen.reason)))
    return replace(one, seen=seen, output=clean.text(one.output))


def _sentence(reason: str) -> str:
    """Return a reason on one line, cut where it is no sentence any more: whoever is asked must not write our report."""
    text = " ".join(reason.split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


# --- the evidence -------------------------------------------------------------------------------------------------------------


def _kept(project: Project, state: State, report: Report, found: Sequence[Probed]) -> Report:
    """Write the evidence and keep its head in the state; return the report with both."""
    stamp = re.sub("[-:.]", "", now().partition("+")[0])  # with milliseconds: no audit may take the name of another one
    name = f"{stamp}Z-{report.serial}.jsonl"
    path = project.folder / STATE_FOLDER / _FOLDER / name
    records = _chained(report, found)
    chain.write(path, records)
    counts = {str(kind): count for kind, count in report.counts.items() if count}
    evidence = Evidence(head=records.head, at=report.finished_at, file=f"{_FOLDER}/{name}", results=counts)
    project.store.begin(state)
    # The serial stays: nothing that exists was changed, and a plan that was saved before can still be applied.
    project.store.write(replace(state, evidence=evidence))
    return replace(report, file=str(path), head=records.head)


def _chained(report: Report, found: Sequence[Probed]) -> chain.Chain:
    records = chain.Chain(report.previous)
    begin = {name: getattr(report, name) for name in (
        "stack", "lineage", "serial", "profiles", "who", "run_url", "started_at", "stack_sha256", "lock_sha256"
    )}  # fmt: skip
    records.add("audit", {**begin, "format": chain.FORMAT, "llmdeploy_version": __version__})
    digests: dict[tuple[str, str], list[str]] = {}
    for one in found:
        for fields in _observations(one):
            digests.setdefault((one.seen.address, fields["fact"]), []).append(records.add("observation", fields))
    for result in report.results:
        records.add("result", _result(result, digests))
    records.end({"finished_at": report.finished_at})
    return records


def _observations(one: Probed) -> Iterator[dict[str, Any]]:
    """Yield the fields of the records of one resource; of a probe that failed as a whole, one without a fact."""
    common = {"address": one.seen.address, "at": one.at, "duration_ms": one.duration_ms}
    for seen in one.seen.observations:
        yield {**seen.model_dump(mode="json"), **common}
    if one.seen.reason and one.asked:
        yield {"fact": "", "value": None, "host": "", "command": "", "output": one.output, "reason": one.seen.reason, **common}


def _result(result: Result, digests: Mapping[tuple[str, str], Sequence[str]]) -> dict[str, Any]:
    fields = asdict(result)
    for name in ("title", "way_out", "uncovered"):  # they are the version's, and no evidence
        del fields[name]
    rests_on = [one for fact in ("", *result.facts) for one in digests.get((result.address, fact), ())]
    return {**fields, "evidence": rests_on}


def known_heads(folder: Path, head: str) -> Iterator[str]:
    """Yield `head` and, as far as the evidence files in `folder` are there and intact, those of the audits before it.

    An older file is vouched for by the ones that follow it: each names the head of the one before.
    """
    files = {one.head: one for path in sorted(folder.glob("*.jsonl")) if path.is_file() and (one := chain.verify(path)).intact}
    seen: set[str] = set()
    while head not in seen:
        yield head
        seen.add(head)
        if head not in files:
            return
        head = str(files[head].begin["prev"])
