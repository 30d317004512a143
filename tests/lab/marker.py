"""Texts that occur nowhere by chance, and every shape in which a program may have written them down."""

from __future__ import annotations

import base64
import random
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def marker() -> str:
    """Return 24 random base32 characters: no character of them is escaped anywhere, and no part of them is a word."""
    return "".join(secrets.choice(_LETTERS) for _ in range(24))


def card_number() -> str:
    """Return a random number of 16 digits that passes the check of payment cards (Luhn)."""
    digits = [4, *(random.SystemRandom().randrange(10) for _ in range(14))]
    doubled = [sum(divmod(2 * digit, 10)) if place % 2 == 0 else digit for place, digit in enumerate(digits)]
    return "".join(map(str, (*digits, -sum(doubled) % 10)))


def encodings(text: str, token_ids: Sequence[int] = ()) -> dict[str, bytes]:
    """Return what to look for, by the name of the encoding. token_ids: what a model's tokenizer makes of the text."""
    raw = text.encode()
    found = {
        "raw": raw,
        "lower case": raw.lower(),
        "reversed": raw[::-1],
        "URL-escaped": b"".join(b"%%%02X" % byte for byte in raw),
        "URL-escaped, lower case": b"".join(b"%%%02x" % byte for byte in raw),
        "JSON-escaped": b"".join(b"\\u%04x" % byte for byte in raw),
        "hexadecimal": raw.hex().encode(),
        "hexadecimal, upper case": raw.hex().upper().encode(),
        "UTF-16, little endian": text.encode("utf-16-le"),
        "UTF-16, big endian": text.encode("utf-16-be"),
        **{f"base64 at {offset}": _base64(raw, offset) for offset in range(3)},
    }
    for name, between in {"commas": ",", "commas and spaces": ", ", "spaces": " "}.items() if token_ids else ():
        found[f"token ids with {name}"] = between.join(map(str, token_ids)).encode()
    return {name: shape for name, shape in found.items() if name == "raw" or shape != raw}


def card_encodings(number: str) -> dict[str, bytes]:
    """Return the shapes of a card number, also in groups as people write it."""
    groups = re.findall("....", number)
    return {**encodings(number), "in groups": " ".join(groups).encode(), "with dashes": "-".join(groups).encode()}


def _base64(raw: bytes, offset: int) -> bytes:
    """Return what base64 makes of `raw` after `offset` unknown bytes, without the characters that the neighbours decide."""
    whole = base64.b64encode(bytes(offset) + raw)
    return whole[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]


def shapes(texts: Mapping[str, str], cards: Mapping[str, str], token_ids: Mapping[str, Sequence[int]]) -> dict[str, bytes]:
    """Return the shapes of many texts, by `NAME: ENCODING`."""
    named = {name: encodings(text, token_ids.get(name, ())) for name, text in texts.items()}
    named |= {name: card_encodings(number) for name, number in cards.items()}
    return {f"{name}: {how}": shape for name, found in named.items() for how, shape in found.items()}
