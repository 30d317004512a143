"""How a machine is reached, and where things of a stack lie on it."""

from __future__ import annotations

from typing import Annotated, Literal

from llmdeploy.sdk import Identity, Input, NotDiffed, SecretRef, Spec


class Connection(Spec):
    """How to reach a machine. `local` is this machine; `ssh` needs address, port, user and the pinned host key.

    Address and host key of a machine that is made first are outputs of what makes it.
    """

    transport: Literal["local", "ssh"] = "local"
    address: Input[str] = "localhost"
    port: int = 22
    user: str = "root"
    host_key: Input[str | None] = None
    proxy_jump: str | None = None
    identity: SecretRef | None = None
    sudo: bool = False


class HostSpec(Spec):
    """Base of every spec of something on a machine. How the machine is reached is no part of the diff."""

    host: Annotated[Input[Connection], NotDiffed()]


class Paths:
    """Names of one stack on a machine: folders made of stack name and lineage, and its system user.

    lib: persistent data; run: sockets and process state, gone after a reboot; log: records; locks: one file per resource being
    changed; shared: what several stacks use together (package owners, engine runtimes).
    """

    ROOTS = ("/var/lib/llmdeploy", "/run/llmdeploy", "/var/log/llmdeploy")

    def __init__(self, slug: str) -> None:
        self.slug = slug
        self.lib = f"/var/lib/llmdeploy/{slug}"
        self.run = f"/run/llmdeploy/{slug}"
        self.log = f"/var/log/llmdeploy/{slug}"
        self.locks = f"/run/llmdeploy/lock/{slug}"
        self.shared = "/var/lib/llmdeploy/shared"
        self.user = f"llmd-{slug.rsplit('-', 1)[1]}"

    @classmethod
    def of(cls, identity: Identity) -> Paths | None:
        """Return the names, or None before the first apply has made a lineage."""
        return cls(identity.slug) if identity.slug else None
