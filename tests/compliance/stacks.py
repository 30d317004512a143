"""Stacks that keep every control they are asked for, line by line, so that a test can spoil one line; and their plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from llmdeploy import pins
from llmdeploy.change import Change
from llmdeploy.cli.session import Wish, open_session, planning
from llmdeploy.compliance import Subject, check
from llmdeploy.desired import Desired, pinned
from llmdeploy.plan import Plan, PlanRefused
from llmdeploy.policy import Finding
from llmdeploy.traits import Traits

Lines = Mapping[str, str]

EVERY_PROFILE = "airgapped, eu-ai-act, gdpr, hipaa, pci-dss, soc2"
ATTEST = (
    "baa: true, dpa: true, ropa: true, dpia: true, mirrors: true, "
    "ai_act: {role: deployer, high_risk: false, intended_purpose: tests}"
)
_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIM3wTqFc2iVYGLB1ZyBGGkLdRYzk8EnZ5Wzq0VbXk2r"
_SEALED = 'state: {local: {}, encryption: {passphrase: "env:STATE_PASSPHRASE"}}'
_TLS = 'gateway: {domain: llm.example.com, tls: {cert: "file:tls/chain.pem", key: "file:tls/key.pem"}}'


def compliance(profiles: str = EVERY_PROFILE, *, attest: str = ATTEST, residency: str = "", endpoints: str = "") -> str:
    """Return the line of the stack file."""
    more = (f", residency: {residency}" if residency else "") + (f", endpoints: {{{endpoints}}}" if endpoints else "")
    return f"compliance: {{profiles: [{profiles}], attest: {{{attest}}}{more}}}"


LOCAL: Lines = {
    "version": "version: 1",
    "name": "name: judged",
    "model": "model: {id: tiny-random, context: 1K, concurrency: 2}",
    "region": "region: DE",
    "compliance": compliance(),
    "provider": "provider: {local: {}}",
    "storage": 'storage: {key: "env:VOLUME_KEY"}',
    "gateway": _TLS,
    "keys": "keys: [{name: me, principal: me}, {name: you, principal: you}]",
    "logs": "logs: {retention_days: 365}",
    "state": _SEALED,
}
"""On this machine, under every profile at once."""

_MACHINES = ", ".join(
    f'{{name: gpu{n}, address: 10.0.0.1{n}, user: ops, gpus: {{type: l40s, count: 2}}, host_key: "{_HOST_KEY}"}}' for n in (1, 2)
)

HOSTS: Lines = {
    **LOCAL,
    "model": "model: {id: llama-3.1-8b-instruct, context: 8K, concurrency: 4}",
    "compliance": compliance("eu-ai-act, gdpr, hipaa, pci-dss, soc2"),
    "provider": f"provider: {{hosts: [{_MACHINES}]}}",
    "hardware": "hardware: {gpu: l40s}",
    "storage": 'storage: {encryption: luks2, device: /dev/disk/by-id/nvme-data0, key: "env:VOLUME_KEY"}',
}
"""On two machines of one's own, under every profile that lets prompts leave the site."""

AWS: Lines = {
    **{name: line for name, line in LOCAL.items() if name not in ("storage", "gateway")},
    "model": "model: {id: llama-3.1-8b-instruct, context: 8K, concurrency: 4}",
    "region": "region: eu-central-1",
    "compliance": compliance("eu-ai-act, gdpr, hipaa, pci-dss, soc2"),
    "provider": "provider: {aws: {}}",
    "gateway": "gateway: {domain: llm.example.com, port: 443}",
    "keys": 'keys: [{name: me, principal: "arn:aws:iam::111122223333:role/me"}]',
    "logs": "logs: {retention_days: 400}",
    "replicas": "replicas: 2",
}
"""At a processor in Germany."""


def text(lines: Lines, changed: Lines | None = None) -> str:
    """Return the stack file with some lines changed; a line that is empty is left out."""
    return "".join(f"{line}\n" for line in {**lines, **(changed or {})}.values() if line)


@dataclass(frozen=True)
class Made:
    """A plan, refused or not, with what it was made from."""

    stack: str
    desired: Desired
    plan: Plan

    @property
    def refusals(self) -> set[tuple[str, str]]:
        """The controls that refuse it, each with the key of the stack file that it points at."""
        return {(one.control, self._key(one.place)) for one in self.plan.findings if one.refuses}

    def of(self, *controls: str) -> list[Finding]:
        """Return the findings of some controls."""
        return [one for one in self.plan.findings if one.control in controls]

    def traits(self, address: str) -> Traits:
        """Return what is planned of a resource."""
        return next(change.traits for change in self.plan.changes if change.address == address)

    def altered(self, address: str, **facts: object) -> set[str]:
        """Return the controls that refuse the plan once a resource has other facts; the stack file cannot say all of them."""
        return {one.control for one in self.judged(address, **facts) if one.refuses}

    def judged(self, address: str, **facts: object) -> tuple[Finding, ...]:
        """Return what the controls find once a resource has other facts."""
        changes = [_with(one, facts) if one.address == address else one for one in self.plan.changes]
        assert changes != list(self.plan.changes), f"{address} is not in the plan, or has these facts already"
        traits = {change.address: change.traits for change in changes}
        subject = Subject(self.desired.loaded.stack, self.desired.policy, traits)
        return check(changes, subject, settled=self.desired.settled)

    def _key(self, place: str) -> str:
        _, line, _ = place.rsplit(":", 2)
        return self.stack.splitlines()[int(line) - 1].partition(":")[0]


def _with(change: Change, facts: Mapping[str, object]) -> Change:
    return replace(change, traits=change.traits.model_copy(update=facts))


def planned(folder: Path, stack: str, *, lock: bool = False, offline: bool = True) -> Made:
    """Return the plan of a stack file. lock: as `llmdeploy lock` leaves it. offline: no hub is asked."""
    folder.mkdir(exist_ok=True)
    (folder / "stack.yaml").write_text(stack)
    session = open_session(folder)
    if lock:
        path, content = pinned(session.inputs, session.registry)
        pins.write(path, content)
    desired = session.desire("off" if offline else "on")
    try:
        with planning(session, desired, Wish(offline=offline)) as (plan, _):
            return Made(stack, desired, plan)
    except PlanRefused as refused:
        return Made(stack, desired, refused.plan)
