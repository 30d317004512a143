"""Encryption of state and journal before they leave this process: AES-256-GCM.

Each text is bound to its lineage, its serial, whether it is a state or a line of a journal, and its place there. So none of them
can be passed off as another: an old state does not open as one of a newer serial. What can be read without the key is the
lineage, the serial and how the key is found.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..errors import StateCorrupt, StateError
from . import aws

_FORMAT = 1
_NONCE_BYTES = 12
_SALT_BYTES = 16
_SHORTEST_PASSPHRASE = 12
_SCRYPT = {"n": 2**17, "r": 8, "p": 1}
"""Cost of guessing a passphrase: about 0.3 s and 128 MiB for each try."""


@dataclass(frozen=True)
class Bound:
    """What a text is bound to: lineage, serial, and whether it is a state or line `place` of a journal."""

    lineage: str
    serial: int
    kind: Literal["state", "journal"] = "state"
    place: int = 0

    def associated(self) -> bytes:
        """Return the associated data of AES-GCM."""
        return json.dumps(["llmdeploy", _FORMAT, self.kind, self.lineage, self.serial, self.place]).encode()


class Keys(Protocol):
    """Where data keys come from. A header tells how to find a key again; it is stored beside what the key encrypts."""

    def new(self, lineage: str) -> tuple[Mapping[str, Any], bytes]:
        """Return a header and the 32 bytes of its key; the same ones all run long."""
        ...

    def find(self, header: Mapping[str, Any], lineage: str, where: str) -> bytes:
        """Return the key of a header. Raises StateError when it cannot be had; `where` names what it encrypts."""
        ...


class Seal:
    """Seals texts and opens them again.

    keys: what seals; None: texts stay as they are. older: also opens, for a state that gets another key.
    """

    def __init__(self, keys: Keys | None, older: Keys | None = None) -> None:
        self._keys = keys
        self._opening = [one for one in (keys, older) if one is not None]

    def seal(self, content: bytes, bound: Bound) -> dict[str, Any] | None:
        """Return the envelope of `content`, ready for JSON; None when texts stay as they are."""
        if self._keys is None:
            return None
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        header, key = self._keys.new(bound.lineage)
        nonce = os.urandom(_NONCE_BYTES)
        data = AESGCM(key).encrypt(nonce, content, bound.associated())
        return {
            "sealed": _FORMAT,
            "lineage": bound.lineage,
            "serial": bound.serial,
            "key": header,
            "nonce": _text(nonce),
            "data": _text(data),
        }

    def open(self, envelope: Mapping[str, Any], where: str, *, kind: Literal["state", "journal"], place: int = 0) -> bytes:
        """Return what was sealed.

        Raises:
            StateError: the key is another one, or cannot be had.
            StateCorrupt: it was changed, or belongs elsewhere.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            if envelope["sealed"] > _FORMAT:
                raise StateCorrupt(f"{where} was encrypted by a newer llmdeploy", hint="use that version or newer")
            bound = Bound(str(envelope["lineage"]), int(envelope["serial"]), kind, place)
            key = self._find(envelope["key"], bound.lineage, where)
            return AESGCM(key).decrypt(b64decode(envelope["nonce"]), b64decode(envelope["data"]), bound.associated())
        except (InvalidTag, KeyError, TypeError, ValueError):
            raise StateCorrupt(
                f"{where} was changed after it was encrypted, or belongs to another state or serial", hint="restore it"
            ) from None

    def _find(self, header: Mapping[str, Any], lineage: str, where: str) -> bytes:
        *others, last = self._opening
        for keys in others:
            try:
                return keys.find(header, lineage, where)
            except StateError:
                continue
        return last.find(header, lineage, where)


def seal_state(content: bytes, bound: Bound, seal: Seal | None) -> bytes:
    """Return a state's text as it is written: sealed, or as it is."""
    envelope = seal.seal(content, bound) if seal else None
    return content if envelope is None else json.dumps(envelope, indent=1).encode() + b"\n"


def open_state(content: bytes, where: str, seal: Seal | None, way_out: str) -> bytes:
    """Return a state's text from what was written. One that is not sealed is given back as it is.

    Raises:
        StateError: it is sealed, and no key is named or the key is another one.
        StateCorrupt: it was changed.
    """
    if not re.match(rb'\s*\{\s*"sealed"', content):
        return content
    try:
        envelope: Any = json.loads(content)
    except ValueError:
        raise StateCorrupt(f"{where} is not whole", hint=way_out) from None
    return need(seal, envelope, where).open(envelope, where, kind="state")


def need(seal: Seal | None, envelope: Mapping[str, Any], where: str) -> Seal:
    """Return the seal. Raises StateError when there is none, naming the setting."""
    if seal is not None:
        return seal
    setting = "{kms_key: ...}" if '"kms"' in json.dumps(envelope.get("key")) else '{passphrase: "env:NAME"}'
    raise StateError(f"{where} is encrypted", hint=f"name its key in the stack file: state.encryption: {setting}")


class Passphrase:
    """Data keys from a passphrase, by scrypt. The salt of what was opened is used again: one derivation for a run."""

    def __init__(self, passphrase: Callable[[], bytes]) -> None:
        self._passphrase = passphrase
        self._known: dict[str, bytes] = {}
        self._header: Mapping[str, Any] | None = None

    def new(self, lineage: str) -> tuple[Mapping[str, Any], bytes]:
        """See `Keys.new`."""
        del lineage
        if self._header is None:
            header = {"method": "passphrase", "kdf": "scrypt", **_SCRYPT, "salt": _text(os.urandom(_SALT_BYTES))}
            key = self._derive(header)
            self._header = {**header, "check": _check(key)}
        return self._header, self._derive(self._header)

    def find(self, header: Mapping[str, Any], lineage: str, where: str) -> bytes:
        """See `Keys.find`."""
        del lineage
        if _method(header) != "passphrase":
            raise StateError(f"{where} is encrypted with a key of KMS", hint="write state.encryption: {kms_key: ...}")
        key = self._derive(header)
        if not hmac.compare_digest(_check(key), str(header["check"])):
            raise StateError(f"the passphrase does not open {where}", hint="give the one that it was encrypted with")
        self._header = header
        return key

    def _derive(self, header: Mapping[str, Any]) -> bytes:
        cost = {name: int(header[name]) for name in _SCRYPT}
        if any(cost[name] > 16 * _SCRYPT[name] for name in cost):
            raise ValueError("this cost was never ours")
        salt = str(header["salt"])
        name = f"{cost} {salt}"
        if name not in self._known:
            passphrase = self._passphrase()
            if len(passphrase) < _SHORTEST_PASSPHRASE:
                raise StateError(
                    f"the passphrase of state.encryption is shorter than {_SHORTEST_PASSPHRASE} characters",
                    hint="make a longer one, for example with `openssl rand -base64 24`",
                )
            memory = 256 * cost["n"] * cost["r"]
            self._known[name] = hashlib.scrypt(passphrase, salt=b64decode(salt), **cost, maxmem=memory, dklen=32)
        return self._known[name]


class Kms:
    """Data keys that a KMS key makes and opens; one is made for each run. The lineage is their encryption context."""

    def __init__(self, key: str, region: str | None, *, timeout_s: float = 15) -> None:
        self._key = key
        self._region = key.split(":")[3] if key.startswith("arn:") and key.count(":") >= 5 else region
        self._timeout_s = timeout_s
        self._client: Any = None
        self._known: dict[str, bytes] = {}
        self._header: dict[str, Mapping[str, Any]] = {}

    def new(self, lineage: str) -> tuple[Mapping[str, Any], bytes]:
        """See `Keys.new`."""
        if lineage not in self._header:
            made = self._call(lambda kms: kms.generate_data_key(KeyId=self._key, KeySpec="AES_256", **_context(lineage)))
            data_key = _text(made["CiphertextBlob"])
            self._known[data_key] = made["Plaintext"]
            self._header[lineage] = {"method": "kms", "key": made["KeyId"], "data_key": data_key}
        header = self._header[lineage]
        return header, self._known[header["data_key"]]

    def find(self, header: Mapping[str, Any], lineage: str, where: str) -> bytes:
        """See `Keys.find`."""
        if _method(header) != "kms":
            raise StateError(f"{where} is encrypted with a passphrase", hint='write state.encryption: {passphrase: "env:NAME"}')
        data_key = str(header["data_key"])
        if data_key not in self._known:
            blob = b64decode(data_key)
            opened = self._call(lambda kms: kms.decrypt(CiphertextBlob=blob, KeyId=self._key, **_context(lineage)))
            self._known[data_key] = opened["Plaintext"]
        return self._known[data_key]

    def _call(self, call: Callable[[Any], Any]) -> Any:
        if self._client is None:
            self._client = aws.client("kms", self._region, self._timeout_s)
        return aws.told(lambda: call(self._client), f"the KMS key {self._key}", self._region)


def _context(lineage: str) -> Mapping[str, Any]:
    return {"EncryptionContext": {"llmdeploy:lineage": lineage}}


def _method(header: Mapping[str, Any]) -> str:
    return str(header["method"])


def _check(key: bytes) -> str:
    """Return what tells a wrong passphrase from a text that was changed."""
    return hmac.new(key, b"llmdeploy key check", "sha256").hexdigest()[:16]


def _text(content: bytes) -> str:
    return b64encode(content).decode()
