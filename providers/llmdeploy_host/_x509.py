"""Keys and certificates, by `cryptography`. Imported only where one is made or looked into: it is slow to load."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Clocks of clients may be a little late.
_SKEW = timedelta(minutes=10)


@dataclass(frozen=True, repr=False)
class Issued:
    """A new certificate and its private key, both PEM."""

    certificate_pem: str
    key_pem: bytes


def issue_ca(common_name: str, days: int) -> Issued:
    """Return a self-signed CA that may issue end certificates only, on a new P-256 key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name)
    usage = _usage(key_cert_sign=True, crl_sign=True)
    builder = (
        _builder(name, name, key.public_key(), datetime.now(UTC) + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return Issued(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def issue_server(ca_pem: str, ca_key_pem: bytes, names: tuple[str, ...], days: int) -> Issued:
    """Return a certificate for a TLS server that answers to `names` (DNS names and IP addresses), on a new P-256 key.

    It never outlives the CA. Raises ValueError when the CA's key is not the key of its certificate.
    """
    ca = x509.load_pem_x509_certificate(ca_pem.encode())
    ca_key = serialization.load_pem_private_key(ca_key_pem, None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey) or ca_key.public_key() != ca.public_key():
        raise ValueError("the key of the CA does not belong to its certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    not_after = min(datetime.now(UTC) + timedelta(days=days), ca.not_valid_after_utc)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = (
        _builder(_name(names[0]), ca.subject, key.public_key(), not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(authority, critical=False)
    )
    return Issued(_pem(builder.sign(ca_key, hashes.SHA256())), _key_pem(key))


def not_after(chain_pem: str) -> datetime:
    """Return when the first certificate of the chain ends."""
    return x509.load_pem_x509_certificate(chain_pem.encode()).not_valid_after_utc


def fingerprint(chain_pem: str) -> str:
    """Return the SHA-256 of the first certificate, as browsers and `openssl x509 -fingerprint` write it."""
    return x509.load_pem_x509_certificate(chain_pem.encode()).fingerprint(hashes.SHA256()).hex(":").upper()


def check_own(content: bytes, key_pem: bytes, names: tuple[str, ...]) -> str:
    """Return the certificates in `content`, without anything else that the file holds.

    Raises ValueError with a sentence when they do not fit the key, the present day or the names.
    """
    try:
        chain = x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError("holds no PEM certificate") from None
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except TypeError:
        raise ValueError("belongs to a key that is protected by a passphrase; the gateway needs it without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("belongs to a key that is no PEM private key") from None
    leaf, now = chain[0], datetime.now(UTC)
    if not isinstance(key, CertificateIssuerPrivateKeyTypes) or key.public_key() != leaf.public_key():
        raise ValueError("does not belong to the key (the server's own certificate must be the first in the file)")
    if leaf.not_valid_after_utc <= now:
        raise ValueError(f"ended on {leaf.not_valid_after_utc:%Y-%m-%d}")
    if leaf.not_valid_before_utc > now + _SKEW:
        raise ValueError(f"begins only on {leaf.not_valid_before_utc:%Y-%m-%d}")
    missing = [name for name in names if not _covers(leaf, name)]
    if missing:
        raise ValueError(f"is not valid for {', '.join(missing)}")
    _check_order(chain)
    return "".join(_pem(certificate) for certificate in chain)


def _check_order(chain: list[x509.Certificate]) -> None:
    for child, parent in pairwise(chain):
        try:
            child.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature):
            raise ValueError("has a chain in which a certificate is not issued by the next one") from None


def _covers(leaf: x509.Certificate, name: str) -> bool:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    if (address := _as_ip(name)) is not None:
        return address in names.get_values_for_type(x509.IPAddress)
    wildcard = f"*.{name.partition('.')[2]}".lower()
    return any(dns.lower() in (name.lower(), wildcard) for dns in names.get_values_for_type(x509.DNSName))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _SKEW)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    # X.520 allows 64 characters; clients look at the alternative names only
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(name: str) -> x509.GeneralName:
    address = _as_ip(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _as_ip(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
