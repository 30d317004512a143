"""`host`: a machine as it is found. Everything on it refers to its connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict

from llmdeploy.sdk import (
    EVIDENCE,
    CommandFailed,
    Context,
    CostLine,
    Identity,
    NotDiffed,
    Observation,
    OperationResult,
    Outputs,
    Prior,
    Problem,
    ReadResult,
    Run,
    Tariff,
    Traits,
    Tree,
    has_unknown,
    observed,
)

from ._connection import Connection, HostSpec, Paths
from ._evidence import ask
from ._host_type import HostType, parse_facts
from ._machine_evidence import machine_questions
from ._owned import cost_lines
from ._scripts import render
from ._session import session


class Facts(BaseModel):
    """What does not change while the machine runs. memory_bytes is all of it; fuse: /dev/fuse is there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    os_id: str
    os_version: str
    architecture: str
    kernel: str
    cpu_count: int
    memory_bytes: int
    systemd: bool
    fuse: bool


class MachineSpec(HostSpec):
    """owned: somebody bought this machine; None where it is rented, or where nothing is known of it (this machine).

    gpu and gpus: kind and number of its GPUs, as its owner says; None where nobody said. region: a country or a label; a
    rented machine's is a region of its `processor`, which rents it out as `service`: both are "" for a machine of one's own.
    """

    owned: Annotated[bool | None, NotDiffed()] = None
    gpu: Annotated[str | None, NotDiffed()] = None
    gpus: Annotated[int | None, NotDiffed()] = None
    region: Annotated[str | None, NotDiffed()] = None
    processor: Annotated[str, NotDiffed()] = ""
    service: Annotated[str, NotDiffed()] = ""


class HostOutputs(Outputs):
    """The connection, for everything else on the machine, and the facts."""

    connection: Connection
    facts: Facts


class Host(HostType[MachineSpec, HostOutputs]):
    """A machine. Nothing is made but the folders below which stacks lie."""

    name = "host"
    spec = MachineSpec
    outputs = HostOutputs

    def __init__(self) -> None:
        self.operations = {EVIDENCE: _look}

    def create(self, ctx: Context, spec: MachineSpec) -> HostOutputs:
        """Make the folders and read the facts."""
        ctx.acked(spec.host.address)
        output = self.script(ctx, spec, folders_script(Paths(ctx.run.slug)) + facts_script())
        return HostOutputs(connection=spec.host, facts=_facts(output))

    def update(self, ctx: Context, prior: Prior, spec: MachineSpec) -> HostOutputs:
        """Make missing folders again."""
        del prior
        return self.create(ctx, spec)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Remove the folders that no other stack uses."""
        spec = prior.spec_as(MachineSpec)
        self.script(ctx, spec, delete_script(Paths(ctx.run.slug)))

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The connection is the one asked for."""
        del identity
        host = values.get("host")
        return {} if has_unknown(host) else {"connection": Connection.model_validate(host).model_dump(mode="json")}

    def probe(self, paths: Paths, prior: Prior) -> str:
        """Print the facts."""
        del paths, prior
        return facts_script()

    def observe(self, prior: Prior, facts: Mapping[str, str]) -> ReadResult:
        """Report fresh facts. A machine that answers exists."""
        connection = prior.spec_as(MachineSpec).host
        if not facts:
            return ReadResult(prior.address, error=f"{connection.address}: it told nothing about itself")
        outputs = HostOutputs(connection=connection, facts=Facts.model_validate(dict(facts)))
        return ReadResult(prior.address, outputs=outputs.tree())

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Where it stands, how it is reached, and what nobody has said of it."""
        host: Tree = values["host"]
        remote = not has_unknown(host) and host["transport"] == "ssh"
        over_ssh = remote or has_unknown(host)
        notes = tuple(_notes(values)) if remote else ()
        rented = {"processor": values.get("processor", ""), "service": values.get("service", "")}
        return Traits(
            region=values.get("region"),
            **rented,
            in_transit="encrypted" if over_ssh else "none",
            machine=True,
            host_key_pinned=host["host_key"] is not None if over_ssh and isinstance(host, Mapping) else None,
            notes=notes,
        )

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """What an owned machine costs by the owner's prices. A rented one is on the bill where it is rented; this one on none."""
        return cost_lines(tariff) if values.get("owned") else ()

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """Root or sudo, and a system with apt."""
        del prior
        if has_unknown(values["host"]):
            return ()
        host = Connection.model_validate(values["host"])
        try:
            found = session(run, host).run(render("host_preflight.sh.j2")).split()
        except CommandFailed as error:
            return (_no_root(host, error),)
        return tuple(_PROBLEMS[word] for word in found if word in _PROBLEMS)


def _look(ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
    """See swap, core dumps, pending updates, clock and SSH of the machine, and whom this run takes for it."""
    del args
    host = prior.spec_as(MachineSpec).host
    return observed((*ask(ctx, host, machine_questions()), *_believed(host)))


def _believed(host: Connection) -> Iterator[Observation]:
    """Yield whether the connection that just asked took one host key only."""
    if host.transport == "ssh":
        yield Observation(
            fact="host_key_pinned",
            value=host.host_key is not None,
            command="llmdeploy show, the spec of the machine: host.host_key",
            output=host.host_key or "none",
        )


def _notes(values: Mapping[str, Tree]) -> Iterator[str]:
    if values.get("owned") and values.get("gpu") is None:
        yield "its GPUs are read when the stack is applied: until then it counts as a machine without any; set gpus"


def facts_script() -> str:
    """Return the fragment that prints the facts."""
    return render("host_facts.sh.j2")


def folders_script(paths: Paths) -> str:
    """Return the script that makes the folders of every stack of the machine."""
    return render("host_create.sh.j2", folders=(*Paths.ROOTS, paths.shared))


def delete_script(paths: Paths) -> str:
    """Return the script that removes this stack's locks, and the common folders that are empty."""
    return render("host_delete.sh.j2", locks=paths.locks, shared=paths.shared, roots=Paths.ROOTS)


def _facts(output: str) -> Facts:
    return Facts.model_validate(parse_facts("::resource host\n" + output)["host"])


_PROBLEMS = {
    "no-apt": Problem("this machine has no apt-get: llmdeploy installs what it needs from Debian's or Ubuntu's packages"),
    "no-root": Problem("the user of this machine is not root", "run llmdeploy as root, or allow passwordless sudo"),
}


def _no_root(host: Connection, error: CommandFailed) -> Problem:
    sentence = f"{host.address}: cannot become root: {error.tail or error.message}"
    return Problem(sentence, "run llmdeploy as root, or allow passwordless sudo")


RESOURCE = Host()
