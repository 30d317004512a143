"""`tls_ca` and `certificate`: what they make is accepted by real TLS clients, renewed in time, and leaks no key."""

from __future__ import annotations

import json
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from pydantic import ValidationError

from llmdeploy.sdk import Drift, ProviderError, Ref, Run, SecretError
from llmdeploy_host import _x509
from llmdeploy_host import certificate as certificate_module
from llmdeploy_host import tls_ca as tls_ca_module
from llmdeploy_host.certificate import CertificateOutputs, CertificateSpec, read_key
from llmdeploy_host.tls_ca import TlsCaOutputs, TlsCaSpec

from ...support import require_tool
from .keys_lab import context, drifted, prior_of, run_in

CA = tls_ca_module.RESOURCE
CERTIFICATE = certificate_module.RESOURCE
CA_SPEC = TlsCaSpec(common_name="llmdeploy keys-test")
NAMES = ("localhost", "127.0.0.1", "::1", "llm.example.com")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_in(tmp_path)


@pytest.fixture
def ca(run: Run) -> TlsCaOutputs:
    return CA.create(context(run, "tls_ca.stack"), CA_SPEC)


@pytest.fixture
def spec(ca: TlsCaOutputs) -> CertificateSpec:
    return CertificateSpec(ca=ca.certificate_pem, names=NAMES, days=180)


@pytest.fixture
def leaf(run: Run, spec: CertificateSpec) -> CertificateOutputs:
    return CERTIFICATE.create(context(run, "certificate.local"), spec)


def aged(outputs: CertificateOutputs | TlsCaOutputs, days_left: int) -> CertificateOutputs | TlsCaOutputs:
    return outputs.model_copy(update={"not_after": (datetime.now(UTC) + timedelta(days=days_left, hours=1)).isoformat()})


# --- the CA -----------------------------------------------------------------------------------------------------------------


def test_the_ca_may_sign_end_certificates_only(ca: TlsCaOutputs) -> None:
    certificate = x509.load_pem_x509_certificate(ca.certificate_pem.encode())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_its_key_is_in_custody_only_and_its_certificate_can_be_read(run: Run, ca: TlsCaOutputs) -> None:
    path, copy = run.custody.path("ca.key"), Path(ca.ca_file)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.stat().st_mode) == 0o644
    assert copy.read_text() == ca.certificate_pem
    secret_line = path.read_text().splitlines()[1]
    others = [file for file in run.folder.rglob("*") if file.is_file() and file != path]
    assert all(secret_line not in file.read_text() for file in others)
    assert secret_line not in json.dumps(ca.tree())


def test_a_whole_ca_has_no_drift(run: Run, ca: TlsCaOutputs) -> None:
    assert CA.read(run, prior_of("tls_ca.stack", CA_SPEC, ca)).drift == ()


def test_a_lost_key_is_told_with_what_it_means_and_a_new_ca_is_made(run: Run, ca: TlsCaOutputs) -> None:
    run.custody.forget("ca.key")
    prior = drifted(CA, run, prior_of("tls_ca.stack", CA_SPEC, ca))
    (drift,) = prior.drift
    assert "ca.key is missing" in drift.sentence
    assert "clients need the new ca.pem" in drift.sentence
    fresh = CA.update(context(run, "tls_ca.stack"), prior, CA_SPEC)
    assert fresh.certificate_pem != ca.certificate_pem
    assert CA.read(run, prior_of("tls_ca.stack", CA_SPEC, fresh)).drift == ()


def test_a_key_of_another_ca_is_drift(run: Run, ca: TlsCaOutputs) -> None:
    run.custody.keep("ca.key", _x509.issue_ca("other", 365).key_pem)
    (drift,) = CA.read(run, prior_of("tls_ca.stack", CA_SPEC, ca)).drift
    assert "is not the one that was made" in drift.sentence


@pytest.mark.parametrize("content", [None, "edited"])
def test_its_file_is_written_again_without_a_new_ca(run: Run, ca: TlsCaOutputs, content: str | None) -> None:
    path = Path(ca.ca_file)
    path.unlink() if content is None else path.write_text(content)
    prior = drifted(CA, run, prior_of("tls_ca.stack", CA_SPEC, ca))
    assert [drift.field for drift in prior.drift] == ["ca_file"]
    assert CA.update(context(run, "tls_ca.stack"), prior, CA_SPEC) == ca
    assert path.read_text() == ca.certificate_pem


@pytest.mark.parametrize(("days", "drifts"), [(91, False), (89, True), (-1, True)])
def test_a_ca_is_replaced_before_it_ends(run: Run, ca: TlsCaOutputs, days: int, drifts: bool) -> None:
    prior = drifted(CA, run, prior_of("tls_ca.stack", CA_SPEC, aged(ca, days)))
    assert bool(prior.drift) is drifts
    if drifts:
        assert CA.update(context(run, "tls_ca.stack"), prior, CA_SPEC).fingerprint != ca.fingerprint


def test_an_interrupted_creation_is_read_and_removed_without_outputs(run: Run) -> None:
    from llmdeploy.sdk import Prior

    half = Prior("tls_ca.stack", "", CA_SPEC.tree(), {}, status="creating")
    assert CA.read(run, half).drift == ()
    CA.delete(context(run, "tls_ca.stack"), half)


def test_delete_leaves_no_file(run: Run, ca: TlsCaOutputs) -> None:
    CA.delete(context(run, "tls_ca.stack"), prior_of("tls_ca.stack", CA_SPEC, ca))
    assert [path for path in run.folder.rglob("*") if path.is_file()] == []


def test_a_folder_that_moved_changes_the_path_only(run: Run, ca: TlsCaOutputs, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = tmp_path_factory.mktemp("other") / "stack"
    run.folder.rename(moved)
    result = CA.read(run_in(moved), prior_of("tls_ca.stack", CA_SPEC, ca))
    assert result.drift == ()
    assert result.outputs is not None
    assert result.outputs["ca_file"] == str(moved / ".llmdeploy" / "ca.pem")


# --- the certificate --------------------------------------------------------------------------------------------------------


def test_the_certificate_serves_its_names_for_at_most_397_days(leaf: CertificateOutputs) -> None:
    certificate = x509.load_pem_x509_certificate(leaf.chain_pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "llm.example.com"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=179) < left <= timedelta(days=180)
    with pytest.raises(ValidationError, match="397"):
        CertificateSpec(ca="x", names=NAMES, days=398)


def test_it_never_outlives_its_ca() -> None:
    ca = _x509.issue_ca("short", 100)
    leaf = _x509.issue_server(ca.certificate_pem, ca.key_pem, NAMES, 397)
    assert _x509.not_after(leaf.certificate_pem) == _x509.not_after(ca.certificate_pem)


def test_its_key_is_in_custody_only(run: Run, leaf: CertificateOutputs) -> None:
    assert leaf.key_source == "custody:certificate.local.key"
    path = run.custody.path("certificate.local.key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = read_key(run, leaf.key_source)
    assert key.reveal() == path.read_bytes()
    assert path.read_text().splitlines()[1] not in json.dumps(leaf.tree())


@pytest.fixture
def tls_port(run: Run, leaf: CertificateOutputs, tmp_path: Path) -> Iterator[int]:
    """A TLS server on both loopback addresses that shakes hands until the test ends."""
    pem = tmp_path / "server.pem"
    pem.write_bytes(leaf.chain_pem.encode() + read_key(run, leaf.key_source).reveal())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as tls:
                    tls.recv(1000)
                    tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            except OSError:
                plain.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def handshake(port: int, name: str, ca_pem: str) -> None:
    context = ssl.create_default_context(cadata=ca_pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain, server_hostname=name):
        pass


@pytest.mark.parametrize("name", NAMES)
def test_python_accepts_it_in_strict_mode_for_every_name(tls_port: int, ca: TlsCaOutputs, name: str) -> None:
    handshake(tls_port, name, ca.certificate_pem)


def test_python_refuses_it_for_another_name_and_with_another_ca(tls_port: int, ca: TlsCaOutputs) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch"):
        handshake(tls_port, "other.example.com", ca.certificate_pem)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls_port, "localhost", _x509.issue_ca("llmdeploy keys-test", 365).certificate_pem)


@pytest.mark.integration
def test_curl_accepts_it_with_the_ca_file(tls_port: int, ca: TlsCaOutputs) -> None:
    require_tool("curl")
    command = ["curl", "-sS", "--noproxy", "*", "--cacert", ca.ca_file, f"https://localhost:{tls_port}/"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout == "ok"


@pytest.mark.parametrize(("days", "drifts"), [(31, False), (29, True), (-2, True)])
def test_it_is_renewed_before_it_ends(run: Run, spec: CertificateSpec, leaf: CertificateOutputs, days: int, drifts: bool) -> None:
    prior = drifted(CERTIFICATE, run, prior_of("certificate.local", spec, aged(leaf, days)))
    expected = [f"the certificate {'is over' if days < 0 else f'ends in {days} days'}"] if drifts else []
    assert [drift.sentence for drift in prior.drift] == expected
    if drifts:
        fresh = CERTIFICATE.update(context(run, "certificate.local"), prior, spec)
        assert fresh.fingerprint != leaf.fingerprint
        assert CERTIFICATE.read(run, prior_of("certificate.local", spec, fresh)).drift == ()


def test_a_lost_or_foreign_key_is_drift(run: Run, spec: CertificateSpec, leaf: CertificateOutputs) -> None:
    prior = prior_of("certificate.local", spec, leaf)
    run.custody.keep("certificate.local.key", b"another")
    assert CERTIFICATE.read(run, prior).drift == (Drift("key_source", "the certificate's key is not the one that was made"),)
    run.custody.forget("certificate.local.key")
    assert CERTIFICATE.read(run, prior).drift == (Drift("key_source", "the certificate's key is missing"),)
    with pytest.raises(SecretError, match="is missing"):
        read_key(run, leaf.key_source)


def test_without_the_key_of_the_ca_nothing_is_signed(run: Run, spec: CertificateSpec) -> None:
    run.custody.forget("ca.key")
    with pytest.raises(SecretError, match=r"CA's key .* is missing"):
        CERTIFICATE.create(context(run, "certificate.local"), spec)
    run.custody.keep("ca.key", _x509.issue_ca("other", 365).key_pem)
    with pytest.raises(ProviderError, match="does not belong to its certificate"):
        CERTIFICATE.create(context(run, "certificate.local"), spec)


def test_delete_of_a_certificate_removes_its_key(run: Run, spec: CertificateSpec, leaf: CertificateOutputs) -> None:
    CERTIFICATE.delete(context(run, "certificate.local"), prior_of("certificate.local", spec, leaf))
    assert run.custody.read("certificate.local.key") is None
    assert run.custody.read("ca.key") is not None


# --- the user's own pair ----------------------------------------------------------------------------------------------------


def own_pair(folder: Path, days: int = 90, names: tuple[str, ...] = ("llm.example.com", "*.wild.example.com")) -> CertificateSpec:
    ca = _x509.issue_ca("somebody else's CA", 3650)
    leaf = _x509.issue_server(ca.certificate_pem, ca.key_pem, names, days)
    (folder / "own.pem").write_text(f"a comment\r\n{leaf.certificate_pem}\nmore\n{ca.certificate_pem}")
    (folder / "own.key").write_bytes(leaf.key_pem)
    return CertificateSpec(names=("llm.example.com", "localhost"), cert_ref="file:own.pem", key_ref="file:own.key")


def test_an_own_pair_is_taken_with_its_chain_and_its_key_stays_where_it_is(run: Run) -> None:
    spec = own_pair(run.folder)
    outputs = CERTIFICATE.create(context(run, "certificate.local"), spec)
    assert outputs.key_source == "file:own.key"
    assert outputs.chain_pem.count("BEGIN CERTIFICATE") == 2
    assert "comment" not in outputs.chain_pem
    assert read_key(run, outputs.key_source).reveal().startswith(b"-----BEGIN PRIVATE KEY")
    assert not run.custody.path("certificate.local.key").exists()
    prior = prior_of("certificate.local", spec, outputs)
    assert CERTIFICATE.read(run, prior).drift == ()
    own_pair(run.folder)
    assert CERTIFICATE.read(run, prior).drift == (Drift("chain_pem", "the certificate file:own.pem has changed"),)
    (run.folder / "own.pem").unlink()
    assert CERTIFICATE.read(run, prior).drift == (), "files that are not at hand are no reason to refuse a destroy"


@pytest.mark.parametrize(
    ("names", "days", "sentence"),
    [
        (("other.example.com",), 90, "is not valid for llm.example.com"),
        (("*.other.example.com",), 90, "is not valid for llm.example.com"),
        (("llm.example.com",), 0, "ended on"),
    ],
)
def test_an_own_pair_that_clients_would_refuse_is_refused(run: Run, names: tuple[str, ...], days: int, sentence: str) -> None:
    with pytest.raises(ProviderError, match=sentence):
        CERTIFICATE.create(context(run, "certificate.local"), own_pair(run.folder, days, names))


def test_a_wildcard_covers_one_level(run: Run) -> None:
    spec = own_pair(run.folder).model_copy(update={"names": ("a.wild.example.com",)})
    assert CERTIFICATE.create(context(run, "certificate.local"), spec).fingerprint
    with pytest.raises(ProviderError, match=r"is not valid for a.b.wild.example.com"):
        CERTIFICATE.create(context(run, "certificate.local"), spec.model_copy(update={"names": ("a.b.wild.example.com",)}))


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("own.key", _x509.issue_ca("x", 365).key_pem, "does not belong to the key"),
        ("own.key", b"nothing", "no PEM private key"),
        ("own.pem", b"nothing", "holds no PEM certificate"),
    ],
)
def test_files_that_do_not_fit_are_named_and_not_repeated(run: Run, file: str, content: bytes, sentence: str) -> None:
    spec = own_pair(run.folder)
    (run.folder / file).write_bytes(content)
    with pytest.raises(ProviderError, match=sentence) as caught:
        CERTIFICATE.create(context(run, "certificate.local"), spec)
    assert "PRIVATE" not in str(caught.value)


def test_a_broken_chain_is_refused(run: Run) -> None:
    spec = own_pair(run.folder)
    pem = (run.folder / "own.pem").read_text()
    (run.folder / "own.pem").write_text(pem + _x509.issue_ca("stranger", 365).certificate_pem)
    with pytest.raises(ProviderError, match="not issued by the next one"):
        CERTIFICATE.create(context(run, "certificate.local"), spec)


@pytest.mark.parametrize(
    "values",
    [{}, {"ca": "x", "cert_ref": "file:a", "key_ref": "file:b"}, {"cert_ref": "file:a"}, {"ca": "x", "key_ref": "file:b"}],
)
def test_a_certificate_has_exactly_one_origin(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="needs either"):
        CertificateSpec(names=NAMES, **values)  # type: ignore[arg-type] - wrong on purpose


def test_references_stay_references() -> None:
    ref = Ref("tls_ca.stack", "certificate_pem")
    assert CertificateSpec.model_validate({"ca": ref, "names": NAMES}).tree()["ca"] == ref


def test_cryptography_is_loaded_only_to_make_or_look_into_a_certificate(
    run: Run, leaf: CertificateOutputs, spec: CertificateSpec
) -> None:
    state = json.dumps({"spec": spec.tree(), "outputs": leaf.tree()})
    code = f"""
import json, sys
from pathlib import Path
from llmdeploy.sdk import Identity, Prior, Run
from llmdeploy_host import api_key, certificate, host_gateway, tls_ca
entry = json.loads({state!r})
run = Run(Identity("keys-test", "1a2b3c4d5e6f"), Path({str(run.folder)!r}), {{}})
prior = Prior("certificate.local", "x", entry["spec"], entry["outputs"])
kind = certificate.RESOURCE
assert kind.read(run, prior).drift == ()
assert kind.plan(prior, entry["spec"]).action == "no-op"
print("cryptography" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "False"


def test_what_cannot_be_read_of_the_users_own_is_told_before_anything_is_done(
    tmp_path: Path, run: Run, spec: CertificateSpec
) -> None:
    (tmp_path / "chain.pem").write_text("x")
    own = CertificateSpec(names=NAMES, cert_ref="file:chain.pem", key_ref="file:gone.pem")
    (problem,) = CERTIFICATE.preflight(run, own.tree(), None)
    assert "gone.pem: No such file" in problem.sentence
    assert "gateway.tls" in problem.hint
    assert CERTIFICATE.preflight(run, spec.tree(), None) == []
