"""Real handshakes: which versions of TLS a gateway accepts, and whether it speaks without."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Sequence

from ..evidence.kernel import Unclear
from .model import Fact, unclear
from .processes import Listener

VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_TIMEOUT_S = 5.0
_EVERYTHING = "ALL:@SECLEVEL=0"
"""Ciphers of a client that refuses nothing by itself: without this level OpenSSL does not offer TLS 1.0 and 1.1."""
_PLAIN = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
_TLS_RECORDS = (0x14, 0x15, 0x16)


def client(version: str = "") -> ssl.SSLContext:
    """Return a client that offers exactly `version` of TLS, or what is usual; it does not look at the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        _only(context, version)
    return context


def _only(context: ssl.SSLContext, version: str) -> None:
    context.set_ciphers(_EVERYTHING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
        context.minimum_version = VERSIONS[version]
        context.maximum_version = VERSIONS[version]


def can_offer(version: str, pem: str) -> bool:
    """Tell whether this machine's OpenSSL speaks `version` at all, by a handshake with itself and the gateway's certificate."""
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(pem)
        _only(server, version)
        _in_memory(client(version), server)
    except (OSError, ValueError):
        return False
    return True


def _in_memory(ours: ssl.SSLContext, theirs: ssl.SSLContext) -> None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [ours.wrap_bio(back, there), theirs.wrap_bio(there, back, server_side=True)]
    for _ in range(10):
        waiting = False
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting = True
        if not waiting:
            return
    raise ValueError("no handshake")


def handshake(listener: Listener, version: str) -> str:
    """Return "" when the listener accepts `version`, else how it refused. Raises Unclear when neither can be said."""
    try:
        link = socket.create_connection((listener.reach, listener.port), timeout=_TIMEOUT_S)
    except OSError as error:
        raise Unclear(f"{listener.name} takes no connection: {error.strerror or error}") from None
    with link:
        try:
            with client(version).wrap_socket(link):
                return ""
        except TimeoutError:
            raise Unclear(f"{listener.name} did not answer a handshake in {_TIMEOUT_S:.0f} s") from None
        except ssl.SSLError as error:
            return (error.reason or "handshake failed").lower().replace("_", " ")
        except OSError as error:
            return f"connection ended ({error.strerror or error})"


def speaks_plainly(listener: Listener) -> bool:
    """Tell whether the listener answers HTTP without TLS. Raises Unclear when that cannot be said."""
    try:
        with socket.create_connection((listener.reach, listener.port), timeout=_TIMEOUT_S) as link:
            link.sendall(_PLAIN)
            answer = link.recv(64)
    except TimeoutError:
        raise Unclear(f"{listener.name} neither answered plain HTTP nor ended the connection in {_TIMEOUT_S:.0f} s") from None
    except ConnectionError:
        return False
    except OSError as error:
        raise Unclear(f"{listener.name} takes no connection: {error.strerror or error}") from None
    if not answer or answer[0] in _TLS_RECORDS:
        return False
    # who speaks TLS may say in plain text that plain text is wrong
    return not answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))


def transport(listeners: Sequence[Listener], pem: str) -> tuple[Fact, Fact]:
    """Tell `in_transit` and `tls_min`: the weakest of all listeners counts."""
    command = "; ".join(
        f"openssl s_client -connect {one.name} -tls1{suffix} -cipher {_EVERYTHING} </dev/null"
        for one in listeners
        for suffix in ("", "_1", "_2", "_3")
    )
    plain_command = "; ".join(f"curl --include http://{one.name}/healthz" for one in listeners)
    offered = [version for version in VERSIONS if can_offer(version, pem)]
    lines: list[str] = []
    accepted: set[str] = set()
    try:
        for one in listeners:
            spoken = speaks_plainly(one)
            lines.append(f"{one.name}: plain HTTP {'accepted' if spoken else 'refused'}")
            versions = {version: handshake(one, version) for version in offered}
            lines += [
                f"{one.name}: TLS {version} {f'refused: {why}' if why else 'accepted'}" for version, why in versions.items()
            ]
            accepted |= {version for version, why in versions.items() if not why} | ({"none"} if spoken else set())
            if not spoken and all(versions.values()):
                raise Unclear(f"{one.name} accepts neither TLS nor plain HTTP")
    except Unclear as error:
        output, reason = "\n".join(lines), str(error)
        return unclear("in_transit", reason, plain_command, output), unclear("tls_min", reason, command, output)
    output = "\n".join(lines)
    in_transit = Fact("in_transit", "plain" if "none" in accepted else "encrypted", plain_command, output)
    return in_transit, oldest(accepted, offered, command, output)


def oldest(accepted: set[str], offered: Sequence[str], command: str, output: str) -> Fact:
    """Tell the oldest version that was accepted. What could not be offered was not refused."""
    found = next(version for version in ("none", *VERSIONS) if version in accepted)
    older = list(VERSIONS)[: list(VERSIONS).index(found)] if found in VERSIONS else []
    silent = [version for version in older if version not in offered]
    if silent:
        reason = f"the OpenSSL of this machine cannot offer TLS {' and '.join(silent)}, so that nobody was asked"
        return unclear("tls_min", reason, command, output)
    return Fact("tls_min", found, command, output)
