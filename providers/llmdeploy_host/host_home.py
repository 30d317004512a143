"""`host_home`: the folders and the system user of one stack on a machine, marked with its lineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from llmdeploy.sdk import (
    EVIDENCE,
    CommandFailed,
    Context,
    Drift,
    Identity,
    NotOwned,
    OperationResult,
    Outputs,
    Prior,
    Problem,
    ReadResult,
    Replace,
    Run,
    Traits,
    Tree,
    has_unknown,
    observed,
)

from ._connection import HostSpec, Paths
from ._evidence import ask, private_question
from ._host_type import HostType, parse_facts
from ._scripts import render
from ._session import session

_FOREIGN = 73
_WAY_OUT = (
    "destroy that stack where its state lies, or give this one another name; if its state is lost, "
    "remove its services, its folders and its user by hand"
)


class HomeSpec(HostSpec):
    """name: of the stack. The lineage comes from the run."""

    name: Annotated[str, Replace("everything of a stack lies under its name")] = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")


class HomeOutputs(Outputs):
    """user and uid: the system user of the stack; lib, run, log: its folders."""

    user: str
    uid: int
    lib: str
    run: str
    log: str


class Home(HostType[HomeSpec, HomeOutputs]):
    """Folders, marker and user of one stack."""

    name = "host_home"
    spec = HomeSpec
    outputs = HomeOutputs

    def __init__(self) -> None:
        self.operations = {EVIDENCE: _look}

    def create(self, ctx: Context, spec: HomeSpec) -> HomeOutputs:
        """Make folders, marker and user."""
        return self._make(ctx, spec, None)

    def _make(self, ctx: Context, spec: HomeSpec, uid: int | None) -> HomeOutputs:
        paths = Paths(ctx.run.slug)
        try:
            output = self.script(ctx, spec, home_script(paths, spec.name, ctx.run.identity.lineage or "", uid))
        except CommandFailed as error:
            if error.status == _FOREIGN:
                raise _not_owned(spec, error.tail) from None
            raise
        ctx.acked(paths.slug)
        found = int(parse_facts("::resource x\n" + output)["x"]["uid"])
        return HomeOutputs(user=paths.user, uid=found, lib=paths.lib, run=paths.run, log=paths.log)

    def update(self, ctx: Context, prior: Prior, spec: HomeSpec) -> HomeOutputs:
        """Make what is missing; the user keeps its number, which files on the volume carry."""
        return self._make(ctx, spec, HomeOutputs.model_validate(prior.outputs).uid)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Remove folders and user; refuses while something is mounted there."""
        script = home_delete_script(Paths(ctx.run.slug), ctx.run.identity.lineage or "")
        self.script(ctx, prior.spec_as(HomeSpec), script)

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """Every name is known once the stack has a lineage."""
        del values
        paths = Paths.of(identity)
        return {} if paths is None else {"user": paths.user, "lib": paths.lib, "run": paths.run, "log": paths.log}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Other users of the machine read nothing below it."""
        del values
        return Traits(private=True)

    def probe(self, paths: Paths, prior: Prior) -> str:
        """Print marker, user and modes."""
        del prior
        return render("home_probe.sh.j2", paths=paths)

    def observe(self, prior: Prior, facts: Mapping[str, str]) -> ReadResult:
        """It is gone when neither folder nor user is there."""
        exists = bool(facts.get("marker") or facts.get("uid"))
        return ReadResult(prior.address, exists=exists, drift=tuple(_drift(prior, facts)) if exists else ())

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """No stack of the same name and another lineage is on the machine."""
        paths = Paths.of(run.identity)
        if prior is not None or has_unknown(values):
            return ()
        spec = HomeSpec.model_validate(values)
        try:
            session(run, spec.host).run(_foreign_script(paths, spec.name, run.identity.lineage or "none"))
        except CommandFailed as error:
            if error.status != _FOREIGN:
                raise
            found = _not_owned(spec, error.tail)
            return (Problem(found.message, found.hint),)
        return ()


def _look(ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
    """See whether other users can read what lies in the folders. What is mounted in them is told by what mounts it."""
    del args
    paths = Paths(ctx.run.slug)
    question = private_question((paths.lib, paths.run, paths.log), (paths.user,))
    return observed(ask(ctx, prior.spec_as(HomeSpec).host, (question,)))


def home_script(paths: Paths, name: str, lineage: str, uid: int | None = None) -> str:
    """Return the script that makes folders, marker and user (with number `uid` if there is one), and prints `uid`."""
    return render("home.sh.j2", paths=paths, name=name, lineage=lineage, roots=Paths.ROOTS, foreign=_FOREIGN, uid=uid)


def home_delete_script(paths: Paths, lineage: str) -> str:
    """Return the script that removes them, and every process and temporary file of the user."""
    return render("home_delete.sh.j2", paths=paths, lineage=lineage)


def _foreign_script(paths: Paths | None, name: str, lineage: str) -> str:
    user = paths.user if paths else ""
    values = render("home_foreign.sh.j2", roots=Paths.ROOTS, foreign=_FOREIGN)
    return f"stack={name} lineage={lineage} user={user}\n{values}"


def _not_owned(spec: HomeSpec, tail: str) -> NotOwned:
    kind, _, what = tail.splitlines()[-1].partition(" ")
    if kind == "user":
        return NotOwned(f"{spec.host.address}: the user {what} exists and was not made by this stack", hint="remove that user")
    sentence = f"{spec.host.address}: a stack named {spec.name} with another lineage lies in {what}"
    return NotOwned(sentence, hint=_WAY_OUT)


def _drift(prior: Prior, facts: Mapping[str, str]) -> Iterable[Drift]:
    outputs = prior.outputs
    if not facts.get("marker"):
        yield Drift("lib", "home: the stack's folder or its marker is missing")
    if not facts.get("comment"):
        yield Drift("user", f"home: the user {outputs.get('user')} is missing")
    for folder, mode in (("lib", "711 root"), ("run", "711 root"), ("log", "700 root")):
        found = facts.get(f"mode.{outputs.get(folder)}", "")
        if found == "":
            yield Drift(folder, f"home: the {folder} folder is missing")
        elif found != mode:
            yield Drift(folder, f"home: the {folder} folder has other rights ({found}, not {mode})")


RESOURCE = Home()
