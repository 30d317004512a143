"""`certificate`: what the gateway shows to clients, signed by the stack's own CA or brought by the user."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from llmdeploy.sdk import (
    EVIDENCE,
    Context,
    Drift,
    Input,
    ManagedType,
    NotBuilt,
    Observation,
    OperationResult,
    Outputs,
    Prior,
    Problem,
    ProviderError,
    ReadResult,
    Run,
    Secret,
    SecretError,
    SecretRef,
    Spec,
    Traits,
    Tree,
    observed,
)

from . import tls_ca
from ._evidence import custody_of, private_file

RENEW_DAYS = 30
_NOT_BUILT = "a certificate whose key is wrapped by a key service can be planned and not made by this version"
# The longest that browsers accept of a public CA; a private one has no reason to be laxer.
LONGEST_DAYS = 397

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


class CertificateSpec(Spec):
    """names: DNS names and IP addresses that clients call.

    Either `ca`, the PEM of the CA that signs, or cert_ref and key_ref, a pair of the user's own. kms_key: wraps the key that is
    made for `ca`; None: it lies in a file of the operator.
    """

    ca: Input[str | None] = None
    names: Annotated[tuple[Input[str], ...], Field(min_length=1)]
    days: Annotated[int, Field(ge=60, le=LONGEST_DAYS)] = LONGEST_DAYS
    cert_ref: SecretRef | None = None
    key_ref: SecretRef | None = None
    kms_key: Input[str | None] = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.cert_ref is None) != (self.key_ref is None) or (self.ca is None) == (self.cert_ref is None):
            raise ValueError("a certificate needs either a CA, or both its own certificate and key")
        return self


class CertificateOutputs(Outputs):
    """The chain, where its key is read from (`custody:NAME` or a reference), its end (ISO 8601), fingerprint, mark of the key."""

    chain_pem: str
    key_source: str
    not_after: str
    fingerprint: str
    key_mark: str


class Certificate(ManagedType[CertificateSpec, CertificateOutputs]):
    """A TLS server certificate. One of the stack's own CA is renewed when 30 days are left; the user's own is read again."""

    name: ClassVar[str] = "certificate"
    converges: ClassVar[bool] = True
    spec = CertificateSpec
    outputs = CertificateOutputs
    changing_outputs: ClassVar[frozenset[str]] = frozenset({"chain_pem", "key_source", "not_after", "fingerprint", "key_mark"})

    def __init__(self) -> None:
        self.operations = {EVIDENCE: _look}

    def traits(self, values: Tree) -> Traits:
        """Return where its key lies."""
        if values["key_ref"] is not None:
            return Traits(custody="reference", secret="tls-key")  # noqa: S106 - the kind of a secret
        if values.get("kms_key") is not None:
            return Traits(custody="kms", secret="tls-key")  # noqa: S106 - the kind of a secret
        return Traits(custody="operator-file", secret="tls-key", private=True)  # noqa: S106 - the kind of a secret

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """The user's own certificate and key can be read."""
        del prior
        problems = [Problem(_NOT_BUILT)] if values.get("kms_key") is not None else []
        for reference in (values["cert_ref"], values["key_ref"]):
            try:
                if reference is not None:
                    run.secret(reference)
            except SecretError as error:
                problems.append(Problem(error.message, error.hint or "see gateway.tls in the stack file"))
        return problems

    def create(self, ctx: Context, spec: CertificateSpec) -> CertificateOutputs:
        """Sign a new certificate, or check the user's own. A repeated call does the same again."""
        if spec.cert_ref is not None and spec.key_ref is not None:
            key = ctx.run.secret(spec.key_ref)
            chain_pem, source = _own_chain(ctx.run, spec.cert_ref, key, spec.names), spec.key_ref
            ctx.acked(spec.cert_ref)
        elif spec.kms_key is not None:
            raise NotBuilt(_NOT_BUILT)
        else:
            name = f"{ctx.address}.key"
            ctx.acked(name)
            chain_pem, key = _sign(ctx.run, spec)
            ctx.run.custody.keep(name, key.reveal())
            source = f"custody:{name}"
        return _outputs(ctx.run, chain_pem, source, key)

    def update(self, ctx: Context, prior: Prior, spec: CertificateSpec) -> CertificateOutputs:
        """Make it anew: there is nothing in a certificate that can be changed."""
        outputs = self.create(ctx, spec)
        if spec.cert_ref is not None:
            ctx.run.custody.forget(f"{prior.address}.key")
        return outputs

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Remove its key. A key of the user's own stays."""
        ctx.run.custody.forget(f"{prior.address}.key")

    def read(self, run: Run, prior: Prior) -> ReadResult:
        """Compare the key, the user's own files and the days that are left with what was made."""
        if not prior.outputs:
            return ReadResult(prior.address)
        kept, spec = CertificateOutputs.model_validate(prior.outputs), prior.spec_as(CertificateSpec)
        if spec.cert_ref is not None:
            return ReadResult(prior.address, drift=_own_drift(run, spec.cert_ref, kept))
        try:
            key = run.custody.read(f"{prior.address}.key")
        except SecretError as error:
            return ReadResult(prior.address, error=error.message)
        drift: list[Drift] = []
        if key is None:
            drift.append(Drift("key_source", "the certificate's key is missing"))
        elif tls_ca.mark(run, key.reveal()) != kept.key_mark:
            drift.append(Drift("key_source", "the certificate's key is not the one that was made"))
        left = tls_ca.days_left(kept.not_after)
        if left < RENEW_DAYS:
            drift.append(Drift("not_after", f"the certificate {tls_ca.ends(left)}"))
        return ReadResult(prior.address, drift=tuple(drift))


def read_key(run: Run, key_source: str) -> Secret:
    """Return the private key behind the output `key_source`.

    Raises:
        SecretError: it is not there or cannot be read.
    """
    kind, _, name = key_source.partition(":")
    if kind != "custody":
        return run.secret(key_source)
    key = run.custody.read(name)
    if key is None:
        raise SecretError(f"the certificate's key {run.custody.path(name)} is missing", hint="plan again: it will be made anew")
    return key


def _look(ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
    """See where the certificate's key lies, who else can read it, and when the certificate ends."""
    del args
    spec, kept = prior.spec_as(CertificateSpec), CertificateOutputs.model_validate(prior.outputs)
    made = ctx.run.custody.path(f"{prior.address}.key")
    ends = f"the certificate {tls_ca.ends(tls_ca.days_left(kept.not_after))}"
    found = (_private_key(ctx.run, spec, made), custody_of(made, spec.key_ref))
    return observed(one.model_copy(update={"output": f"{one.output}\n{ends}".strip()}) for one in found)


def _private_key(run: Run, spec: CertificateSpec, made: Path) -> Observation:
    kind, _, rest = (spec.key_ref or "").partition(":")
    if not kind:
        return private_file(made)
    if kind == "file":
        return private_file(run.folder / Path(rest).expanduser())
    return Observation(fact="private", reason=f"the key is read from {kind}:, and no file of it is known")


def _sign(run: Run, spec: CertificateSpec) -> tuple[str, Secret]:
    from . import _x509

    ca_key = run.custody.read(tls_ca.KEY)
    if ca_key is None or spec.ca is None:
        raise SecretError(f"the CA's key {run.custody.path(tls_ca.KEY)} is missing", hint="plan again: a new CA will be made")
    try:
        issued = _x509.issue_server(spec.ca, ca_key.reveal(), spec.names, spec.days)
    except ValueError as error:
        raise ProviderError(str(error), hint="plan again: a new CA will be made") from None
    return issued.certificate_pem, Secret(issued.key_pem)


def _own_chain(run: Run, cert_ref: str, key: Secret, names: tuple[str, ...]) -> str:
    from . import _x509

    # the machine calls itself by names that no public certificate has
    called = tuple(name for name in names if not _is_local(name))
    try:
        return _x509.check_own(run.secret(cert_ref).reveal(), key.reveal(), called)
    except ValueError as error:
        raise ProviderError(f"the certificate {cert_ref} {error}", hint="give a valid pair under gateway.tls") from None


def _is_local(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _outputs(run: Run, chain_pem: str, key_source: str, key: Secret) -> CertificateOutputs:
    from . import _x509

    return CertificateOutputs(
        chain_pem=chain_pem,
        key_source=key_source,
        not_after=_x509.not_after(chain_pem).isoformat(),
        fingerprint=_x509.fingerprint(chain_pem),
        key_mark=tls_ca.mark(run, key.reveal()),
    )


def _own_drift(run: Run, cert_ref: str, kept: CertificateOutputs) -> tuple[Drift, ...]:
    try:
        chain, key = _blocks(run.secret(cert_ref).reveal().decode(errors="replace")), run.secret(kept.key_source)
    except SecretError:
        # The gateway has its copy: that the files are not at hand now is no reason to refuse a plan or a destroy.
        return ()
    if chain != _blocks(kept.chain_pem):
        return (Drift("chain_pem", f"the certificate {cert_ref} has changed"),)
    if tls_ca.mark(run, key.reveal()) != kept.key_mark:
        return (Drift("key_source", f"the key {kept.key_source} has changed"),)
    return ()


def _blocks(pem: str) -> list[str]:
    """Return the certificates, regardless of comments, line ends and wrapping."""
    return ["".join(body.split()) for body in _CERTIFICATE.findall(pem)]


RESOURCE = Certificate()
