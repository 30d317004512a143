"""`host_volume`: where weights and caches lie. Encrypted with gocryptfs, file names too, or plain when asked for.

A whole disk encrypted with LUKS2 can be planned and not made yet.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Annotated, Literal

from llmdeploy.sdk import (
    EVIDENCE,
    CommandFailed,
    Context,
    Drift,
    Identity,
    Input,
    NotBuilt,
    NotDiffed,
    OperationResult,
    Outputs,
    PlannedChange,
    Prior,
    Problem,
    ProviderError,
    ReadResult,
    Replace,
    ResourceType,
    Run,
    Secret,
    SecretError,
    SecretRef,
    Traits,
    Tree,
    has_unknown,
    observed,
)

from ._connection import Connection, HostSpec, Paths
from ._evidence import ask, custody_of
from ._host_type import HostType, parse_facts
from ._s6 import PATH
from ._scripts import render
from ._session import session
from ._systemd import volume_scope
from ._volume_evidence import volume_questions

CUSTODY_NAME = "volume.key"
_MAX_KEY_BYTES = 1000
_STATUS = SimpleNamespace(wrong_key=12, no_conf=74, not_empty=75, busy=76)

Encryption = Literal["gocryptfs", "luks2", "none"]
Unlock = Literal["auto", "tpm2", "operator", "kms"]
KeyCustody = Literal["operator-file", "reference", "kms"]


class VolumeSpec(HostSpec):
    """home: the stack's folder. key: reference to the key, None for one that llmdeploy makes.

    A key that llmdeploy makes is kept with the operator, or wrapped by `kms_key`, a key of a cloud's key service. on_destroy:
    `keep` leaves the volume and its key where they are when it is removed; None: both are erased. Of LUKS2 only:
    device: the disk. erase: serial numbers of disks whose content may be lost. unlock: what opens it after a restart. filesystem:
    what is made on it.
    """

    home: Annotated[Input[str], Replace("the volume lies in the stack's folder")]
    encryption: Annotated[Encryption, Replace("what is stored must be written anew to be encrypted otherwise")]
    key: SecretRef | None = None
    kms_key: Input[str | None] = None
    device: Annotated[Input[str | None], Replace("another disk holds another volume")] = None
    erase: Annotated[tuple[str, ...], NotDiffed()] = ()
    unlock: Unlock | None = None
    filesystem: Annotated[Literal["ext4", "xfs"] | None, Replace("a file system cannot become another one")] = None
    on_destroy: Literal["keep"] | None = None


class VolumeOutputs(Outputs):
    """path: where the volume is mounted."""

    path: str
    encryption: Encryption


class Volume(HostType[VolumeSpec, VolumeOutputs]):
    """The volume of one stack on one machine."""

    name = "host_volume"
    spec = VolumeSpec
    outputs = VolumeOutputs

    def __init__(self) -> None:
        self.operations = {"inspect": self._inspect, EVIDENCE: _look}

    def plan(self, prior: Prior | None, values: Mapping[str, Tree]) -> PlannedChange:
        """Decide as every type does, and say what happens to a disk."""
        planned = super().plan(prior, values)
        if planned.action == "no-op" or values["encryption"] != "luks2":
            return planned
        return replace(planned, details=tuple(_disk_details(values, fresh=planned.action != "update")))

    def create(self, ctx: Context, spec: VolumeSpec) -> VolumeOutputs:
        """Make the volume if it is not there, and unlock it."""
        _check_built(spec)
        paths = Paths(ctx.run.slug)
        ctx.acked(paths.slug)
        if spec.encryption == "none":
            self.script(ctx, spec, plain_script(paths))
        else:
            key = _key(ctx.run, spec.key) or _generate(ctx.run, self._is_made(ctx, spec))
            self._open(ctx, spec, open_script(paths), [key])
        return _outputs(spec)

    def update(self, ctx: Context, prior: Prior, spec: VolumeSpec) -> VolumeOutputs:
        """Unlock it again; give it the new key when the reference changed."""
        _check_built(spec)
        before = prior.spec_as(VolumeSpec)
        if spec.encryption == "none" or before.key == spec.key:
            return self.create(ctx, spec)
        new = _key(ctx.run, spec.key) or _generate(ctx.run, made=False)
        # Without the old key the volume may still open: a run may have died after the change and before it was recorded.
        old = _key(ctx.run, before.key) or new
        self._open(ctx, spec, open_script(Paths(ctx.run.slug), rekey=True), [new, old])
        if spec.key is not None:
            ctx.run.custody.forget(CUSTODY_NAME)
        return _outputs(spec)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Lock it, destroy its key, remove it."""
        spec = prior.spec_as(VolumeSpec)
        _check_built(spec)
        try:
            self.script(ctx, spec, close_script(Paths(ctx.run.slug)))
        except CommandFailed as error:
            raise _explained(error) from None
        ctx.run.custody.forget(CUSTODY_NAME)

    def _open(self, ctx: Context, spec: VolumeSpec, script: str, keys: Sequence[Secret]) -> None:
        stdin = b"".join(key.reveal() + b"\n" for key in keys)
        try:
            self.script(ctx, spec, script, stdin=stdin)
        except CommandFailed as error:
            raise _explained(error) from None

    def _is_made(self, ctx: Context, spec: VolumeSpec) -> bool:
        output = session(ctx.run, spec.host).run(probe_script(Paths(ctx.run.slug)))
        return "made" in parse_facts("::resource x\n" + output)["x"]

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The path is known once the stack's folder is."""
        del identity
        known = {"encryption": values["encryption"]}
        return known if has_unknown(values["home"]) else {**known, "path": f"{values['home']}/volume"}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """How it lies on disk, who holds the key, what that protects against, and what removing it leaves."""
        if values.get("encryption") == "none":
            # Removed files of a plain volume can be read from the disk until something is written over them.
            return Traits(at_rest="plain", erased=False, private=True, notes=(_NOTE_PLAIN,))
        custody: KeyCustody = "operator-file"
        if values.get("key") is not None:
            custody = "reference"
        elif values.get("kms_key") is not None:
            custody = "kms"
        return Traits(
            at_rest="encrypted",
            custody=custody,
            secret="volume-key",  # noqa: S106 - the kind of a secret
            erased=values.get("on_destroy") != "keep",
            private=True,
            notes=(_NOTE_GENERATED,) if custody == "operator-file" else (),
        )

    def probe(self, paths: Paths, prior: Prior) -> str:
        """Print whether it is made, mounted and answers."""
        del prior
        return probe_script(paths)

    def observe(self, prior: Prior, facts: Mapping[str, str]) -> ReadResult:
        """A volume that is locked, or whose process died, is drift."""
        if prior.spec_as(VolumeSpec).encryption == "none":
            return ReadResult(prior.address, exists="folder" in facts)
        if "made" not in facts:
            return ReadResult(prior.address, exists=False)
        if "mounted" not in facts:
            return ReadResult(prior.address, drift=(Drift("mounted", "volume: not mounted"),))
        if "answers" not in facts:
            return ReadResult(prior.address, drift=(Drift("mounted", "volume: its process died, the mount does not answer"),))
        return ReadResult(prior.address)

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """The kernel has FUSE, and the key can be read."""
        del prior
        if values["encryption"] == "none":
            return ()
        if values["encryption"] == "luks2" or values.get("kms_key") is not None:
            return (Problem(_NOT_BUILT, _INSTEAD),)
        problems: list[Problem] = []
        if not has_unknown(values["host"]):
            host = Connection.model_validate(values["host"])
            if session(run, host).run("[ -c /dev/fuse ] || echo missing").strip():
                sentence = f"{host.address}: no /dev/fuse, which encryption needs"
                problems.append(Problem(sentence, "modprobe fuse, or in a container pass --device /dev/fuse"))
        try:
            _key(run, values["key"])
        except SecretError as error:
            problems.append(Problem(error.message, error.hint))
        return problems

    def _inspect(self, ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
        del args
        output = session(ctx.run, prior.spec_as(VolumeSpec).host).run(probe_script(Paths(ctx.run.slug)))
        seen = self.observe(prior, parse_facts("::resource x\n" + output)["x"])
        state = seen.drift[0].sentence if seen.drift else "mounted" if seen.exists else "gone"
        return OperationResult({"state": state.removeprefix("volume: "), "path": prior.outputs.get("path")})


def _look(ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
    """See whether what is written there is encrypted, who else can read it, and where the key lies."""
    del args
    spec, paths = prior.spec_as(VolumeSpec), Paths(ctx.run.slug)
    found = ask(ctx, spec.host, volume_questions(backing_of(paths), mount_of(paths), paths.user, spec.encryption != "none"))
    if spec.encryption == "none":
        return observed(found)
    return observed((*found, custody_of(ctx.run.custody.path(CUSTODY_NAME), spec.key)))


KEEP = "leave storage.on_destroy out; `llmdeploy destroy --keep-weights` keeps the volume with all that it stands on"
_NOT_BUILT = "LUKS2 volumes, and keys wrapped by a key service, can be planned and not made by this version"
_INSTEAD = "use storage: {encryption: gocryptfs} with a key reference"
_NOTE_PLAIN = "storage is NOT encrypted: whoever reads the disk reads the weights and everything the engine caches"
_NOTE_GENERATED = (
    "the volume's key lies in a 0600 file beside the stack file: that protects a disk that is lost, sold or copied without that "
    "file, not against whoever is root on this machine or reads both; back the key up, without it the volume cannot be opened"
)
_KEY_GONE = "the key that llmdeploy made for the volume is gone from .llmdeploy/secrets"
_RESTORE = "restore that file from your backup; without it the volume stays locked, and only destroy and a new apply help"


def open_script(paths: Paths, *, rekey: bool = False) -> str:
    """Return the script that makes and unlocks the encrypted volume; rekey: it gets a new key first."""
    return render("volume_open.sh.j2", **_values(paths), path=PATH, rekey=rekey)


def close_script(paths: Paths) -> str:
    """Return the script that locks, erases and removes a volume of either kind."""
    return render("volume_close.sh.j2", **_values(paths))


def plain_script(paths: Paths) -> str:
    """Return the script that makes an unencrypted volume."""
    return render("volume_plain.sh.j2", **_values(paths))


def probe_script(paths: Paths) -> str:
    """Return the fragment that prints `folder`, `made`, `mounted` and `answers`."""
    return render("volume_probe.sh.j2", **_values(paths))


def backing_of(paths: Paths) -> str:
    """Return the folder of what is encrypted."""
    return f"{paths.lib}/volume.enc"


def mount_of(paths: Paths) -> str:
    """Return where it is mounted, or where files lie that are not encrypted."""
    return f"{paths.lib}/volume"


def _values(paths: Paths) -> dict[str, object]:
    return {
        "backing": backing_of(paths),
        "mount": mount_of(paths),
        "messages": f"{paths.run}/volume.log",
        "scope": volume_scope(paths),
        "status": _STATUS,
    }


def _check_built(spec: VolumeSpec) -> None:
    if spec.encryption == "luks2" or spec.kms_key is not None:
        raise NotBuilt(_NOT_BUILT, hint=_INSTEAD)
    if spec.on_destroy is not None:
        raise NotBuilt("volumes that stay when they are removed can be planned and not made by this version", hint=KEEP)


_UNLOCK = {
    "tpm2": "after a restart the machine's TPM 2.0 opens it by itself, as long as Secure Boot is as it was",
    "operator": "after a restart it stays locked until `llmdeploy apply` sends the key over SSH, to memory only",
    "kms": "after a restart the machine asks the key service for its key and opens it by itself",
    "auto": "after a restart a TPM 2.0 opens it by itself, as long as Secure Boot is as it was; without one it stays locked "
    "until `llmdeploy apply` sends the key over SSH, to memory only",
}


def _disk_details(values: Mapping[str, Tree], *, fresh: bool) -> Iterator[str]:
    """Say what is made of the disk, what is never erased, and what opens it."""
    device = values.get("device")
    named = device if isinstance(device, str) else "its disk (known after apply)"
    if fresh:
        filesystem = values.get("filesystem") or "ext4"
        yield f"formats {named} as LUKS2 (aes-xts-plain64, 512 bit, argon2id) with {filesystem}: what is on it is lost"
        erase: list[str] = list(values.get("erase") or ())
        listed = f" ({', '.join(erase)})" if erase else ""
        yield f"refuses a disk that is mounted, or holds a known signature and has no serial number of storage.erase{listed}"
    yield _UNLOCK[values.get("unlock") or "auto"]
    if values.get("on_destroy") == "keep":
        yield "when it is removed the disk stays as it is, locked: whoever has the key can open it"
    else:
        yield "when it is removed its key slots and header are erased: nobody can read the disk any more, also not with the key"


def _outputs(spec: VolumeSpec) -> VolumeOutputs:
    return VolumeOutputs(path=f"{spec.home}/volume", encryption=spec.encryption)


def _key(run: Run, reference: str | None) -> Secret | None:
    """The key behind the reference, or the generated one; None when none was generated yet."""
    key = run.custody.read(CUSTODY_NAME) if reference is None else run.secret(reference)
    if key is not None and (len(key.reveal()) > _MAX_KEY_BYTES or any(byte in key.reveal() for byte in b"\n\r\0")):
        raise SecretError(
            f"the volume's key {reference or CUSTODY_NAME} must be one line of at most {_MAX_KEY_BYTES} bytes",
            hint="for example: openssl rand -base64 32",
        )
    return key


def _generate(run: Run, made: bool) -> Secret:
    if made:
        raise SecretError(_KEY_GONE, hint=_RESTORE)
    value = secrets.token_urlsafe(32).encode()
    run.custody.keep(CUSTODY_NAME, value)
    return Secret(value)


def _explained(error: CommandFailed) -> Exception:
    if error.status == _STATUS.wrong_key:
        return SecretError("the key does not open the volume; nothing was changed", hint="give the key it was made with")
    if error.status == _STATUS.no_conf:
        return ProviderError(
            "the volume has data but its gocryptfs.conf is gone, so no key opens it",
            hint="restore volume.enc/fs/gocryptfs.conf from a backup, or replace the volume and lose what is in it",
        )
    if error.status == _STATUS.not_empty:
        return ProviderError("files lie in the volume's folder while it is not mounted", hint="move them away, then apply again")
    if error.status == _STATUS.busy:
        return ProviderError(error.tail.splitlines()[-1], hint="end those processes, then run this again", retryable=True)
    return error


RESOURCE: ResourceType[VolumeSpec, VolumeOutputs] = Volume()
