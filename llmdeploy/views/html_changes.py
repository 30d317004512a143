"""What an HTML plan tells of each change: its mark and reason, the fields that are set or differ, and what happens inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from ..change import Action, Change
from ..plan import Plan
from . import value
from .human import groups, rollout, symbol, wiring

_LIMIT = 110
"""Letters of one value."""
_FRAME_BYTES = 700
_ROW_BYTES = 110
_WORDS: dict[Action, str] = {
    "create": "create",
    "update": "change",
    "replace": "replace",
    "delete": "delete",
    "adopt": "adopt",
    "no-op": "delete",
}


@dataclass(frozen=True)
class Row:
    """One field: set to `after`, or changed from `before`. forces: it is why the resource is replaced."""

    path: str
    before: str
    after: str
    forces: bool = False


@dataclass(frozen=True)
class ChangeView:
    """One change as texts. style: CSS class of its action; gist: its first fields; compares: its rows have a value before."""

    mark: str
    word: str
    style: str
    address: str
    reason: str
    gist: str = ""
    rows: tuple[Row, ...] = ()
    compares: bool = False
    drift: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def folded(self) -> bool:
        """Whether there is something to open."""
        return bool(self.rows or self.drift or self.notes)


@dataclass(frozen=True)
class GroupView:
    """The changes under one heading. counts: how many of each word, in words."""

    name: str
    counts: str
    changes: tuple[ChangeView, ...]
    left_out: int = 0


def change_groups(plan: Plan, room_bytes: int) -> tuple[GroupView, ...]:
    """Return all changes under their headings, as far as they fit into `room_bytes` of HTML; the others are counted."""
    connecting = wiring(plan)
    everywhere = _everywhere(plan)
    found: list[GroupView] = []
    for name, changes in groups(plan).items():
        views = [view for one in changes for view in _views(one, connecting.get(one.address, set()), everywhere)]
        shown, room_bytes = _fitting(views, room_bytes)
        found.append(GroupView(name, _counts(views), shown, len(views) - len(shown)))
    return tuple(found)


def drift_views(plan: Plan, room_bytes: int) -> tuple[tuple[ChangeView, ...], int]:
    """Return what a look at the world found different, and how many of them do not fit into `room_bytes`."""
    views = [
        ChangeView("~", "differs", "update", change.address, "", drift=tuple(drift.sentence for drift in change.drift))
        for change in plan.changes
        if change.drift
    ]
    shown, _ = _fitting(views, room_bytes)
    return shown, len(views) - len(shown)


def _fitting(views: Sequence[ChangeView], room_bytes: int) -> tuple[tuple[ChangeView, ...], int]:
    """Return the first changes that fit, and the room that is left; none once one did not fit."""
    for index, view in enumerate(views):
        room_bytes -= _size(view)
        if room_bytes < 0:
            return tuple(views[:index]), room_bytes
    return tuple(views), room_bytes


def _everywhere(plan: Plan) -> frozenset[str]:
    """Return the fields that many resources have: they tell little of one."""
    seen = Counter(name for change in plan.effective for name in change.after or {})
    return frozenset(name for name, times in seen.items() if times > max(3, len(plan.effective) / 4))


def _counts(views: Sequence[ChangeView]) -> str:
    words = dict.fromkeys(view.word for view in views)
    return ", ".join(f"{sum(view.word == word for view in views)} to {word}" for word in words)


def _size(view: ChangeView) -> int:
    """Return about how many bytes a change takes, rather more than less."""
    texts = [
        view.address,
        view.reason,
        view.gist,
        *view.drift,
        *view.notes,
        *(f"{row.path}{row.before}{row.after}" for row in view.rows),
    ]
    written = sum(len(escape(text).encode("ascii", "xmlcharrefreplace")) + _ROW_BYTES for text in texts)
    return _FRAME_BYTES + written + _ROW_BYTES * len(view.rows)


def _views(change: Change, connecting: Collection[str], everywhere: Collection[str]) -> Iterator[ChangeView]:
    """Yield the change, and one deletion for each replaced object that is still there."""
    mark, _ = symbol(change)
    gone = ChangeView("-", "delete", "delete", change.address, "")
    if change.action != "no-op":
        drift = tuple(one.sentence for one in change.drift)
        reason = change.reason if change.reason != "; ".join(drift) else ""
        rows = tuple(_rows(change, connecting))
        notes = tuple(_notes(change))
        gist = _gist(rows, everywhere) or next(iter((*drift, *notes)), "")
        view = ChangeView(mark, _WORDS[change.action], change.action, change.address, reason, gist, rows, notes=notes)
        yield replace(view, compares=any(row.before for row in rows), drift=drift)
    for generation in change.deposed:
        yield replace(gone, reason=f"object of generation {generation}: it was replaced and is still there")


def _rows(change: Change, connecting: Collection[str]) -> Iterator[Row]:
    """Yield fields: of a new resource what is set, not what only connects it with another; otherwise what differs."""
    if change.action == "create" and not change.drift:
        values = {name: item for name, item in (change.after or {}).items() if name not in connecting}
        for name, item in value.leaves(values, depth=1):
            if item not in (None, "", [], {}):
                yield Row(name, "", value.short(item, _LIMIT))
    elif change.action not in ("delete", "no-op"):
        for one in change.fields:
            yield Row(one.path, value.short(one.before, _LIMIT), value.short(one.after, _LIMIT), one.replaces)


def _gist(rows: Sequence[Row], everywhere: Collection[str]) -> str:
    """Return the first fields in one line, those that tell most before the others; the page cuts what has no room."""
    rows = sorted(rows, key=lambda row: row.path.partition(".")[0] in everywhere and not row.before)
    told = (f"{row.path} {row.before} \u2192 {row.after}" if row.before else f"{row.path} {row.after}" for row in rows[:4])
    return ", ".join(told)


def _notes(change: Change) -> Iterator[str]:
    if change.in_doubt:
        yield "in doubt: its creation was sent and never answered; apply settles that first"
    if change.found:
        yield f"found: {change.found}"
    yield from change.details
    if change.rollout and change.action in ("update", "replace"):
        yield rollout(change.rollout)
