"""The probe of llmdeploy's own files: who can read the state, whether it is encrypted, whether an API key lies in the open."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .. import __version__
from ..backend import Backend
from ..chain import API_KEY
from ..compliance.live import Seen
from ..errors import LlmdeployError
from ..evidence import Observation
from ..plan_file import is_plan_file
from ..state.local import STATE_FOLDER
from ..state.model import State
from ..traits import Traits
from .probes import Probed, now

STATE = "state"
"""Address and `service` of the state in an audit."""

_KEY = re.compile(API_KEY.pattern.encode())
_CHUNK = 2**20
_OVERLAP = 256
_SEALED = re.compile(rb'\s*\{\s*"sealed"')
_SECRETS = ("secrets", "keys")
"""Folders that hold secrets in clear on purpose: they are the operator's copies."""
_SHOWN = 50


def probe_state(folder: Path, state: State, place: Backend) -> Probed:
    """Look at the state and what else lies in `folder/.llmdeploy`. place: where the state lies."""
    at, started = now(), time.monotonic()
    own = folder / STATE_FOLDER
    observations = (
        _private_bucket(place) if place.bucket else _private(own),
        _at_rest_bucket(place) if place.bucket else _at_rest(own),
        _stored_keys(folder, state),
    )
    planned = Traits(service=STATE, private=True, stored_keys="hashes")
    return Probed(Seen(STATE, planned, observations), at, round((time.monotonic() - started) * 1000))


# --- who can read it ----------------------------------------------------------------------------------------------------------


def _private(own: Path) -> Observation:
    command = f"find {STATE_FOLDER} -maxdepth 2 -perm /077 -ls; stat -c '%a %n' {STATE_FOLDER}"
    try:
        wide = [f"{stat.S_IMODE(path.stat().st_mode):o} {_shown(path, own)}" for path in _guarded(own) if _is_wide(path)]
    except OSError as error:
        return Observation(fact="private", command=command, reason=f"cannot look at {error.filename}: {error.strerror}")
    told = "\n".join(wide[:_SHOWN]) or "nobody but the owner can read the folder and the files of the state"
    return Observation(fact="private", value=not wide, command=command, output=told)


def _guarded(own: Path) -> Iterator[Path]:
    """Yield the folder, and the files in it that only their owner may read."""
    yield own
    yield from _state_files(own)
    for name in (*_SECRETS, "evidence"):
        yield from sorted(path for path in (own / name).glob("*") if path.is_file())


def _state_files(own: Path) -> list[Path]:
    names = ("state.json*", "moved-*", "journal.jsonl")
    return sorted(path for name in names for path in own.glob(name) if path.is_file())


def _is_wide(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def _shown(path: Path, own: Path) -> str:
    return str(path.relative_to(own.parent))


def _private_bucket(place: Backend) -> Observation:
    return Observation(
        fact="private",
        host=f"s3://{place.bucket}",
        reason="who else can read the bucket follows from its policy and from the account's, which are not asked",
    )


# --- whether it is encrypted --------------------------------------------------------------------------------------------------


def _at_rest(own: Path) -> Observation:
    command = f"head -c 80 {STATE_FOLDER}/state.json*"
    try:
        found = {_shown(path, own): _is_sealed(path.read_bytes()) for path in _state_files(own)}
    except OSError as error:
        return Observation(fact="at_rest", command=command, reason=f"cannot read {error.filename}: {error.strerror}")
    if not found:
        return Observation(fact="at_rest", command=command, reason=f"there is no state in {STATE_FOLDER}")
    told = "\n".join(f"{name}: {'encrypted by llmdeploy' if sealed else 'in clear'}" for name, sealed in found.items())
    return Observation(fact="at_rest", value="encrypted" if all(found.values()) else "plain", command=command, output=told)


def _is_sealed(content: bytes) -> bool:
    """Return whether a state, or each line of a journal, is encrypted. A file without content holds nothing in clear."""
    if _SEALED.match(content) or not content.strip():
        return True
    return all(b'"sealed"' in line and b'"records"' not in line for line in content.splitlines())


def _at_rest_bucket(place: Backend) -> Observation:
    where = f"{place.path}/state.json"
    host, command = f"s3://{place.bucket}", f"aws s3api head-object --bucket {place.bucket} --key {where}"
    try:
        bucket = place.boto()
        stored = bucket.get(where)
        method, key = bucket.encryption(where)
    except LlmdeployError as error:
        return Observation(fact="at_rest", host=host, command=command, reason=error.message)
    if stored is None:
        return Observation(fact="at_rest", host=host, command=command, reason=f"there is no {where}")
    told = f"ServerSideEncryption: {method or 'none'}\nSSEKMSKeyId: {key or 'none'}"
    if sealed := _is_sealed(stored.content):
        told += "\nencrypted by llmdeploy before it was sent"
    return Observation(
        fact="at_rest", value="encrypted" if method or sealed else "plain", host=host, command=command, output=told
    )


# --- whether a key lies in it -------------------------------------------------------------------------------------------------


def _stored_keys(folder: Path, state: State) -> Observation:
    left_out = " ".join(f"--exclude-dir={name}" for name in _SECRETS)
    command = f"grep -rlE 'llmd_(live|test)_[0-9A-Za-z_]{{16,}}' {left_out} {STATE_FOLDER}"
    own = folder / STATE_FOLDER
    try:
        looked = [path for path in (*_own_files(own), *_plan_files(folder)) if path.is_file() and not path.is_symlink()]
        hits = [_shown(path, own) for path in looked if _holds_key(path)]
    except OSError as error:
        return Observation(fact="stored_keys", command=command, reason=f"cannot read {error.filename}: {error.strerror}")
    if API_KEY.search(state.to_json(__version__)):
        hits.append("the state, once it is decrypted")
    told = [f"an API key lies in {hit}" for hit in hits[:_SHOWN]]
    told.append(f"{len(looked)} files and the state were searched, {len(hits)} of them hold an API key")
    return Observation(fact="stored_keys", value="clear" if hits else "hashes", command=command, output="\n".join(told))


def _own_files(own: Path) -> Iterator[Path]:
    return (path for path in sorted(own.rglob("*")) if path.relative_to(own).parts[0] not in _SECRETS)


def _plan_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*")) if path.is_file() and _is_plan(path))


def _is_plan(path: Path) -> bool:
    """Return whether a file is a plan that can be applied, or one that was made for other programs."""
    try:
        return is_plan_file(path)
    except LlmdeployError:
        return True


def _holds_key(path: Path) -> bool:
    with path.open("rb") as file:
        return _streams_key(file)


def _streams_key(file: BinaryIO) -> bool:
    before = b""
    while chunk := file.read(_CHUNK):
        if _KEY.search(before + chunk):
            return True
        before = chunk[-_OVERLAP:]
    return False
