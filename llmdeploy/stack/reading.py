"""Read a text file of the user without hanging, and refuse bytes that an editor would not show."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from pathlib import Path

from ..diagnostics import Diagnostics, Place
from ..errors import StackError

MAX_BYTES = 1 << 20
"""Largest stack or variables file in bytes."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")


def read(path: Path, *, what: str, hint: str) -> bytes:
    """Return the bytes of a regular file of at most `MAX_BYTES`; `what` names it in errors.

    Raises:
        StackError: there is none, it cannot be read, it is no regular file, or it is too large.
    """
    try:
        # Without O_NONBLOCK the open of a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a usable path"
        raise StackError(f"cannot read the {what} {path}: {reason}", hint=hint) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise StackError(f"cannot read the {what} {path}: it is {kind}", hint=hint)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise StackError(f"cannot read the {what} {path}: {error.strerror}", hint=hint) from None
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise StackError(f"the {what} {path} is larger than {MAX_BYTES >> 20} MiB", hint="is this the right file?")
    return content


def decode(content: bytes, file: str, found: Diagnostics) -> str | None:
    """Return the text, or None after an error with line and column: other encodings, byte order marks, control characters."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        found.error("the file is UTF-16", Place(file, 1, 1), hint="save it as UTF-8")
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        summary = f"byte 0x{content[error.start]:02x} is not UTF-8"
        found.error(summary, place_of(before, len(before), file), hint="save the file as UTF-8")
        return None
    if text.startswith("\ufeff"):
        found.error("the file starts with a byte order mark", Place(file, 1, 1), hint="save it as UTF-8 without BOM")
        return None
    if unseen := _UNSEEN.search(text):
        found.error(f"{character_name(unseen[0])} is not allowed", place_of(text, unseen.start(), file), hint="remove it")
        return None
    return text


def unseen_character(text: str) -> str | None:
    """Return the name of the first character of `text` that an editor would not show, or None."""
    unseen = _UNSEEN.search(text)
    return character_name(unseen[0]) if unseen else None


def character_name(character: str) -> str:
    """Return `the character U+0000 (NULL)`."""
    name = unicodedata.name(character, "a control character" if ord(character) < 0xA0 else "")
    return f"the character U+{ord(character):04X}" + (f" ({name})" if name else "")


def place_of(text: str, index: int, file: str) -> Place:
    """Return the place of the character at `index`."""
    ends = [match.end() for match in _LINE_END.finditer(text, 0, index)]
    return Place(file, len(ends) + 1, index - (ends[-1] if ends else 0) + 1)
