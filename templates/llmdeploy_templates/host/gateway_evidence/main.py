"""Tells every fact of a gateway, as one line of JSON on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

from ..evidence.kernel import Unclear
from ..evidence.scan import Marks
from .files import content, flows, guards, private
from .keys import stored
from .model import FACTS, Fact, Wanted, unclear
from .processes import Listener, exposure, gateway_pids, listeners, strangers
from .records import Log, fields, open_log, retention, wait_for_lines
from .requests import ask_everywhere, authenticated
from .tls import transport

_MOST_LISTENERS = 16


def main(arguments: str) -> None:
    """Look, and print. `arguments`: the fields of Wanted as JSON."""
    wanted = Wanted(**json.loads(arguments))
    told = {one.fact: one for one in look(wanted)}
    json.dump([told[name].document() for name in FACTS], sys.stdout)


def look(wanted: Wanted) -> list[Fact]:
    """Return every fact. Where there is no running gateway, none of them can be told."""
    pids = gateway_pids(wanted.config)
    if not pids:
        return _all(f"no process of the gateway is running with {wanted.config}")
    found = listeners(pids)
    if not any(one.port == wanted.port for one in found):
        return _all(f"no process of the gateway listens on port {wanted.port}")
    if others := strangers(pids, wanted.port, found):
        return _all(f"another program takes connections on port {wanted.port} as well: {others[0]}")
    if len(found) > _MOST_LISTENERS:
        return _all(f"the gateway listens on {len(found)} sockets; at most {_MOST_LISTENERS} are looked at")
    try:
        log = open_log(wanted)
    except (OSError, Unclear) as error:
        return _all(f"its log cannot be read: {error}")
    planted = Marks()
    return [
        exposure(wanted, pids, found),
        *transport(found, f"{wanted.folder}/tls.pem"),
        *_asked(wanted, found, log, planted),
        stored(wanted, pids, log),
        private(wanted, log),
        retention(log),
        flows(wanted),
    ]


def _asked(wanted: Wanted, found: Sequence[Listener], log: Log, planted: Marks) -> Iterator[Fact]:
    """Return what can only be told after requests were sent."""
    names = ("authenticated", "guards", "log_fields", "content_found")
    try:
        asked = ask_everywhere(found, planted)
    except Unclear as error:
        yield from (unclear(name, str(error)) for name in names)
        return
    yield authenticated(asked, found)
    lines = [line for name in ("no-query", "own-request-ids") for line in asked.said.get(name, ())]
    wrong = [name for name in ("no-query", "own-request-ids") if asked.wrong.get(name)]
    try:
        if not asked.ids:
            raise Unclear("the answers carry no id of the request, so that nobody can find them in the log")
        written = wait_for_lines(log, asked.ids)
    except (OSError, Unclear) as error:
        yield guards(wanted, wrong, lines) if wrong else unclear("guards", str(error), "", "\n".join(lines))
        yield from (unclear(name, str(error)) for name in ("log_fields", "content_found"))
        return
    mark = planted["request id"].encode()
    if any(mark in line for line in written):
        lines.append("x-request-id of the client is in the log")
        wrong = sorted({*wrong, "own-request-ids"})
    yield guards(wanted, wrong, lines)
    yield fields(log, written, asked.ids)
    yield content(wanted, log, planted)


def _all(reason: str) -> list[Fact]:
    return [unclear(name, reason) for name in FACTS]
