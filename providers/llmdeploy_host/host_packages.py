"""`host_packages`: packages of the distribution, shared by the stacks of a machine.

A package that was there is used as it is. One that llmdeploy brought goes, with what came along with it, when the last stack
that wanted it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from llmdeploy.sdk import (
    CommandFailed,
    Context,
    DataFlow,
    Drift,
    NotOwned,
    Outputs,
    Prior,
    Problem,
    ReadResult,
    Run,
    Timeouts,
    Traits,
    Tree,
    has_unknown,
)

from ._connection import Connection, HostSpec, Paths
from ._host_type import HostType, parse_facts
from ._scripts import render
from ._servers import PACKAGE_SERVERS
from ._session import session

_REFUSED = 73
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]


class PackagesSpec(HostSpec):
    """Names of Debian or Ubuntu packages."""

    packages: tuple[PackageName, ...]


class PackagesOutputs(Outputs):
    """versions: of each wanted package; added: those that were not there before llmdeploy came."""

    versions: dict[str, str]
    added: tuple[str, ...]


class Packages(HostType[PackagesSpec, PackagesOutputs]):
    """The packages that one stack wants on one machine."""

    name = "host_packages"
    spec = PackagesSpec
    outputs = PackagesOutputs
    timeouts: ClassVar[Timeouts] = Timeouts(create_s=1800, update_s=1800, delete_s=900)

    def create(self, ctx: Context, spec: PackagesSpec) -> PackagesOutputs:
        """Install what is missing and record who wants it."""
        ctx.acked(ctx.run.slug)
        return self._bring(ctx, spec)

    def update(self, ctx: Context, prior: Prior, spec: PackagesSpec) -> PackagesOutputs:
        """Install what is missing, give up what is no longer wanted."""
        del prior
        return self._bring(ctx, spec)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Give up every package of this stack."""
        self._bring(ctx, prior.spec_as(PackagesSpec).model_copy(update={"packages": ()}))

    def _bring(self, ctx: Context, spec: PackagesSpec) -> PackagesOutputs:
        try:
            output = self.script(ctx, spec, packages_script(Paths(ctx.run.slug), spec.packages))
        except CommandFailed as error:
            if error.status == _REFUSED:
                sentence = error.tail.splitlines()[-1]
                raise NotOwned(f"{spec.host.address}: {sentence}", hint=_upgrade(sentence.partition(": ")[2])) from None
            raise
        return _outputs(spec.packages, parse_facts("::resource x\n" + output)["x"])

    def probe(self, paths: Paths, prior: Prior) -> str:
        """Print versions and records."""
        return render("packages_probe.sh.j2", **_values(paths, prior.spec_as(PackagesSpec).packages))

    def observe(self, prior: Prior, facts: Mapping[str, str]) -> ReadResult:
        """A package that is gone, or a record that is gone, is drift; another version is not."""
        packages = prior.spec_as(PackagesSpec).packages
        outputs = _outputs(packages, facts)
        return ReadResult(prior.address, outputs=outputs.tree(), drift=tuple(_drift(packages, facts)))

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """Every missing package has a candidate, and brings no change of packages that are there."""
        del prior
        if has_unknown(values):
            return ()
        spec = PackagesSpec.model_validate(values)
        output = session(run, spec.host).run(render("packages_preflight.sh.j2", packages=spec.packages))
        return tuple(_problems(spec.host, [line.partition("\t") for line in output.splitlines()]))

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """The distribution's own packages, from where the machine's administrator has set them up: not a stack's artefacts."""
        del values
        return Traits(data_flows=(DataFlow(what="requests for packages", to=PACKAGE_SERVERS),))


def packages_script(paths: Paths, packages: Sequence[str]) -> str:
    """Return the script that brings this stack's packages to exactly `packages`."""
    lock = paths.locks.rpartition("/")[0] + "/packages"
    return render("packages.sh.j2", **_values(paths, packages), lock=lock, refused=_REFUSED)


def _values(paths: Paths, packages: Sequence[str]) -> dict[str, object]:
    return {"records": f"{paths.shared}/packages", "stack": paths.slug, "packages": packages}


def _outputs(packages: Sequence[str], facts: Mapping[str, str]) -> PackagesOutputs:
    return PackagesOutputs(
        versions={package: facts.get(f"version.{package}", "") for package in packages},
        added=tuple(package for package in packages if f"added.{package}" in facts),
    )


def _drift(packages: Sequence[str], facts: Mapping[str, str]) -> Iterable[Drift]:
    for package in packages:
        if not facts.get(f"version.{package}"):
            yield Drift("packages", f"packages: {package} is not installed")
        elif f"owned.{package}" not in facts:
            yield Drift("packages", f"packages: the record that this stack uses {package} is missing")


def _problems(host: Connection, found: Sequence[tuple[str, str, str]]) -> Iterable[Problem]:
    for word, _, package in found:
        if word == "unknown":
            sentence = f"{host.address}: the package sources have no {package}"
            yield Problem(sentence, "check /etc/apt/sources.list on that machine")
    changed = " ".join(package for word, _, package in found if word == "changed")
    if changed:
        sentence = f"{host.address}: installing what is missing would change packages that were there before: {changed}"
        yield Problem(sentence, _upgrade(changed))


def _upgrade(packages: str) -> str:
    return f"llmdeploy never changes them; do it yourself, then apply again: apt-get install --only-upgrade {packages}"


RESOURCE = Packages()
