"""`tls_ca`: a certificate authority of the stack's own. Its key never leaves the operator's secret files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from llmdeploy.sdk import (
    EVIDENCE,
    Context,
    Drift,
    Input,
    ManagedType,
    NotBuilt,
    OperationResult,
    Outputs,
    Prior,
    Problem,
    ProviderError,
    ReadResult,
    Run,
    Secret,
    SecretError,
    Spec,
    Traits,
    Tree,
    observed,
    write_private,
)

from ._evidence import custody_of, private_file

KEY = "ca.key"
"""Name of its key in custody."""

_NOT_BUILT = "a CA whose key is wrapped by a key service can be planned and not made by this version"

# Certificates that it issues end with it, and clients need the new one: so it is replaced long before.
RENEW_DAYS = 90


class TlsCaSpec(Spec):
    """common_name: what the certificate is called. days: how long it is valid; a new one is made when 90 days are left.

    kms_key: the key of a cloud's key service that wraps the CA's key; None: the CA's key lies in a file of the operator.
    """

    common_name: Annotated[str, Field(min_length=1)]
    days: Annotated[int, Field(ge=365, le=7300)] = 3650
    kms_key: Input[str | None] = None


class TlsCaOutputs(Outputs):
    """The certificate, its SHA-256 fingerprint, its end (ISO 8601), the operator's copy of it, and a keyed mark of its key."""

    certificate_pem: str
    fingerprint: str
    not_after: str
    ca_file: str
    key_mark: str


class TlsCa(ManagedType[TlsCaSpec, TlsCaOutputs]):
    """A P-256 CA that issues end certificates only. Every change makes a new one; what it signed follows."""

    name: ClassVar[str] = "tls_ca"
    converges: ClassVar[bool] = True
    spec = TlsCaSpec
    outputs = TlsCaOutputs
    changing_outputs: ClassVar[frozenset[str]] = frozenset({"certificate_pem", "fingerprint", "not_after", "ca_file", "key_mark"})

    def __init__(self) -> None:
        self.operations = {EVIDENCE: _look}

    def traits(self, values: Tree) -> Traits:
        """Return where its key lies, and what that protects against."""
        if values.get("kms_key") is not None:
            return Traits(custody="kms", secret="ca-key")  # noqa: S106 - the kind of a secret
        return Traits(
            custody="operator-file",
            secret="ca-key",  # noqa: S106 - the kind of a secret
            private=True,
            notes=(
                "the CA's key lies in a 0600 file of the operator: other users cannot read it; whoever reads this disk or is "
                "root here can make certificates that clients of this stack trust",
            ),
        )

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """A key service is not asked yet."""
        del run, prior
        return (Problem(_NOT_BUILT),) if values.get("kms_key") is not None else ()

    def create(self, ctx: Context, spec: TlsCaSpec) -> TlsCaOutputs:
        """Make key and certificate. A repeated call makes both anew: nothing was signed before it returned."""
        from . import _x509

        if spec.kms_key is not None:
            raise NotBuilt(_NOT_BUILT)

        issued = _x509.issue_ca(spec.common_name, spec.days)
        ctx.acked(KEY)
        ctx.run.custody.keep(KEY, issued.key_pem)
        _write_certificate(ctx.run, issued.certificate_pem)
        return TlsCaOutputs(
            certificate_pem=issued.certificate_pem,
            fingerprint=_x509.fingerprint(issued.certificate_pem),
            not_after=_x509.not_after(issued.certificate_pem).isoformat(),
            ca_file=str(ca_file(ctx.run)),
            key_mark=mark(ctx.run, issued.key_pem),
        )

    def update(self, ctx: Context, prior: Prior, spec: TlsCaSpec) -> TlsCaOutputs:
        """Write the certificate's file again when only that is amiss; else make a new CA."""
        kept = TlsCaOutputs.model_validate(prior.outputs)
        if prior.spec_as(TlsCaSpec) != spec or not {drift.field for drift in prior.drift} <= {"ca_file"}:
            return self.create(ctx, spec)
        _write_certificate(ctx.run, kept.certificate_pem)
        return kept.model_copy(update={"ca_file": str(ca_file(ctx.run))})

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Remove key and certificate."""
        del prior
        ctx.run.custody.forget(KEY)
        ca_file(ctx.run).unlink(missing_ok=True)

    def read(self, run: Run, prior: Prior) -> ReadResult:
        """Compare key, file and the days that are left with what was made."""
        if not prior.outputs:
            return ReadResult(prior.address)
        kept = TlsCaOutputs.model_validate(prior.outputs)
        try:
            drift = [*_key_drift(run, kept), *_file_drift(run, kept)]
        except SecretError as error:
            return ReadResult(prior.address, error=error.message)
        left = days_left(kept.not_after)
        if left < RENEW_DAYS:
            drift.append(Drift("not_after", f"the CA {ends(left)}: a new one is made, and clients need the new ca.pem"))
        return ReadResult(prior.address, outputs={**prior.outputs, "ca_file": str(ca_file(run))}, drift=tuple(drift))


def ca_file(run: Run) -> Path:
    """Return where the operator's copy of the certificate lies."""
    return run.folder.absolute() / ".llmdeploy" / "ca.pem"


def _look(ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
    """See where the CA's key lies and who else can read it."""
    del prior, args
    path = ctx.run.custody.path(KEY)
    return observed((private_file(path), custody_of(path, None)))


def mark(run: Run, secret: bytes) -> str:
    """Return a keyed mark that changes when the secret changes and tells nothing else."""
    return Secret(secret).fingerprint(run.slug.encode())


def days_left(not_after: str) -> int:
    """Return the whole days until an ISO 8601 time; negative when it is over."""
    return (datetime.fromisoformat(not_after) - datetime.now(UTC)).days


def ends(days: int) -> str:
    """Return `ends in N days`, or that it is over."""
    return "is over" if days < 0 else f"ends in {days} days"


def _key_drift(run: Run, kept: TlsCaOutputs) -> list[Drift]:
    path, key = run.custody.path(KEY), run.custody.read(KEY)
    follows = "no certificate can be signed with it: a new CA is made, and clients need the new ca.pem"
    if key is None:
        return [Drift("key", f"the CA's key {path} is missing; {follows}")]
    if mark(run, key.reveal()) != kept.key_mark:
        return [Drift("key", f"the CA's key {path} is not the one that was made; {follows}")]
    return []


def _file_drift(run: Run, kept: TlsCaOutputs) -> list[Drift]:
    path = ca_file(run)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [Drift("ca_file", f"{path} is missing")]
    except OSError as error:
        raise SecretError(f"cannot read {path}: {error.strerror}") from None
    return [] if content == kept.certificate_pem.encode() else [Drift("ca_file", f"{path} was changed by hand")]


def _write_certificate(run: Run, certificate_pem: str) -> None:
    path = ca_file(run)
    try:
        write_private(path, certificate_pem.encode())
        path.chmod(0o644)
    except OSError as error:
        raise ProviderError(f"cannot write {path}: {error.strerror}", hint="check the rights of that folder") from None


RESOURCE = TlsCa()
