"""References to secrets, and secrets that never print themselves.

A stack file holds references only: `env:NAME`, `file:PATH` (relative to the stack file) or `aws-secret:ARN-or-name`.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from .errors import NotBuilt, SecretError

_REFERENCE = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:[^\x00-\x1f]+|aws-secret:[^\s]+)\Z")


def _check(value: str) -> str:
    if not _REFERENCE.match(value):
        # The value itself is not repeated: it may be the secret.
        raise ValueError("must be a reference to a secret: env:NAME, file:PATH or aws-secret:NAME, never the secret itself")
    return value


SecretRef = Annotated[str, AfterValidator(_check)]
"""A checked reference to a secret; safe to store and to show."""


class Secret:
    """Bytes that do not appear in repr, str, format, pickles or JSON. Call `reveal` where they are used."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the secret bytes."""
        return self._value

    def fingerprint(self, key: bytes) -> str:
        """Return a keyed fingerprint (HMAC-SHA-256, hex) that changes when the secret changes and tells nothing else."""
        return hmac.new(key, self._value, sha256).hexdigest()

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is never serialised")


def resolve(ref: str, *, folder: Path, environ: Mapping[str, str]) -> Secret:
    """Return the secret behind `ref`; relative files start at `folder`. One trailing newline of a file is dropped.

    Raises:
        SecretError: nothing is there, it is empty, or it cannot be read.
    """
    kind, _, rest = ref.partition(":")
    if kind == "env":
        value = environ.get(rest)
        if not value:
            raise SecretError(f"environment variable {rest} is not set or empty", hint=f"export {rest} before this command")
        return Secret(value.encode())
    if kind == "file":
        path = folder / Path(rest).expanduser()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SecretError(f"cannot read the secret file {path}: {error.strerror}") from None
        content = content.removesuffix(b"\n").removesuffix(b"\r")
        if not content:
            raise SecretError(f"the secret file {path} is empty")
        return Secret(content)
    raise NotBuilt(f"secrets of AWS Secrets Manager cannot be read by this version: {ref}", hint="use env: or file:")


class Custody:
    """Secrets that llmdeploy made itself, as 0600 files of the operator in one 0700 folder.

    Allowed only with local state on the `local` provider; elsewhere secrets must be references.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Return where the secret `name` lies or would lie."""
        return self._folder / name

    def read(self, name: str) -> Secret | None:
        """Return the secret, or None when there is none.

        Raises:
            SecretError: it is there and cannot be read.
        """
        try:
            return Secret(self.path(name).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SecretError(f"cannot read {self.path(name)}: {error.strerror}") from None

    def keep(self, name: str, value: bytes) -> Path:
        """Write the secret so that it is whole or absent after a crash; return its path.

        Raises:
            SecretError: the folder or the file cannot be written.
        """
        target = self.path(name)
        try:
            write_private(target, value)
        except OSError as error:
            raise SecretError(f"cannot write {target}: {error.strerror}", hint="check the rights of that folder") from None
        return target

    def forget(self, name: str) -> None:
        """Remove the secret; nothing happens when there is none."""
        self.path(name).unlink(missing_ok=True)


def write_private(target: Path, content: bytes) -> None:
    """Write `target` atomically and durably as a 0600 file; missing folders are made with 0700."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
