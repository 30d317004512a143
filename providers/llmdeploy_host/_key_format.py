"""The form of an API key: `llmd_live_<id8>_<43 base62><crc6>`.

The 43 digits hold 256 bits of randomness, so an unsalted SHA-256 of the key is safe to keep. The checksum over everything
before it lets secret scanners and people tell a real key from a mistyped one without asking anybody.
"""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from hashlib import sha256

from llmdeploy.sdk import Secret

PREFIX = "llmd_live_"
PATTERN = re.compile(r"llmd_live_([0-9A-Za-z]{8})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class ApiKey:
    """A key: its public id, the hash that gateways know, and the secret text itself."""

    key_id: str
    sha256: str
    secret: Secret


def mint() -> ApiKey:
    """Return a new key."""
    key_id = _base62(int.from_bytes(os.urandom(8)), 8)
    body = f"{PREFIX}{key_id}_{_base62(int.from_bytes(os.urandom(32)), 43)}"
    return parse(body + checksum(body))


def parse(text: str) -> ApiKey:
    """Return the key that `text` is.

    Raises:
        ValueError: it is no key of llmdeploy, or mistyped. The text is not repeated.
    """
    match = PATTERN.fullmatch(text)
    if match is None:
        raise ValueError("this is not an API key of llmdeploy")
    if checksum(text[:-6]) != match[3]:
        raise ValueError("this API key is mistyped: its checksum does not fit")
    return ApiKey(match[1], sha256(text.encode()).hexdigest(), Secret(text.encode()))


def checksum(body: str) -> str:
    """Return the six digits that end a key: the CRC-32 of what is before them."""
    return _base62(zlib.crc32(body.encode()), 6)


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
