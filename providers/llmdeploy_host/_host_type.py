"""Base of every resource type on a machine: scripts that change it, and one probe script per machine that reads all of them."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from llmdeploy.sdk import CommandFailed, Context, ManagedType, Outputs, Prior, ReadRequest, ReadResult, ResourceType, Run

from ._connection import Connection, HostSpec, Paths
from ._session import run_script, session

S = TypeVar("S", bound=HostSpec)
O = TypeVar("O", bound=Outputs)  # noqa: E741 - as in the sdk

_MARK = "::resource "


class HostType(ManagedType[S, O]):
    """One kind of thing on a machine.

    `probe` is a POSIX sh fragment that prints facts as `key<TAB>value` lines and changes nothing; `observe` turns them into what
    refresh reports. Both are pure.
    """

    converges: ClassVar[bool] = True

    @abstractmethod
    def probe(self, paths: Paths, prior: Prior) -> str:
        """Return the fragment. It runs in a subshell of its own, without `set -e`; it must not read standard input."""

    @abstractmethod
    def observe(self, prior: Prior, facts: Mapping[str, str]) -> ReadResult:
        """Judge the facts."""

    def script(self, ctx: Context, spec: HostSpec, script: str, *, stdin: bytes = b"") -> str:
        """Run a changing script for `ctx.address`, under this stack's lock for that address on the machine."""
        return run_script(ctx, spec.host, locked(Paths(ctx.run.slug), ctx.address, script), stdin=stdin)


def locked(paths: Paths, name: str, script: str) -> str:
    """Return `script` with `set -eu` and under an exclusive lock `name` on the machine, so that two controllers never interleave.

    Descriptor 9 holds the lock: a daemon that the script starts must close it (`9>&-`).
    """
    folder = shlex.quote(paths.locks)
    opened = f"set -eu\numask 022\nmkdir -p {folder}\numask 077\nexec 9>{folder}/{shlex.quote(name)}\nflock 9\n"
    return f"{opened}{script}"


def refresh_hosts(types: Mapping[str, ResourceType[Any, Any]], run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
    """Read everything on every machine with one script and one connection per machine."""
    paths = Paths.of(run.identity)
    machines: dict[str, tuple[Connection, list[tuple[HostType[Any, Any], Prior]]]] = {}
    for request in requests:
        kind = types[request.type]
        if isinstance(kind, HostType) and paths is not None:
            connection = request.prior.spec_as(kind.spec).host
            machines.setdefault(connection.model_dump_json(), (connection, []))[1].append((kind, request.prior))
        elif isinstance(kind, ManagedType):
            yield kind.read(run, request.prior)
    for connection, wanted in machines.values():
        assert paths is not None  # noqa: S101 - machines is empty otherwise
        yield from _read_machine(run, paths, connection, wanted)


def _read_machine(
    run: Run, paths: Paths, connection: Connection, wanted: list[tuple[HostType[Any, Any], Prior]]
) -> Iterable[ReadResult]:
    script = "\n".join(
        f"printf '\\n%s\\n' {shlex.quote(_MARK + prior.address)}\n(\n{kind.probe(paths, prior)}\n) 2>/dev/null </dev/null || :"
        for kind, prior in wanted
    )
    try:
        output = session(run, connection).run(script)
    except CommandFailed as error:
        yield from (ReadResult(prior.address, error=f"{connection.address}: {error.message}") for _, prior in wanted)
        return
    facts = parse_facts(output)
    for kind, prior in wanted:
        yield kind.observe(prior, facts.get(prior.address, {}))


def parse_facts(output: str) -> dict[str, dict[str, str]]:
    """Return address -> facts from the output of a probe script."""
    facts: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in output.splitlines():
        if line.startswith(_MARK):
            current = facts.setdefault(line.removeprefix(_MARK), {})
            continue
        key, tab, value = line.partition("\t")
        if tab:
            current[key] = value
    return facts
