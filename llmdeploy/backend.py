"""Which store holds the state of a stack: what the stack file says, or, where that cannot be read, what was used last.

The state of a stack must not be split between two places. So a note in `.llmdeploy/backend.json` keeps where it lies, and a stack
file that says something else is refused until the state was moved.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import secret
from .desired import Inputs, load
from .errors import StackError, StateCorrupt, StateError
from .registry import Registry
from .stack.load import FILE_NAME
from .stack.model import Stack
from .state.local import STATE_FOLDER, LocalStore
from .state.model import Moved, State
from .state.seal import Bound, Keys, Kms, Passphrase, Seal
from .state.store import Store

if TYPE_CHECKING:
    from .state.boto import BotoBucket


@dataclass(frozen=True)
class Site:
    """Where a command works: the stack's folder, the environment, and what gets sentences for the user."""

    folder: Path
    environ: Mapping[str, str]
    warn: Callable[[str], None] = lambda _sentence: None


_NOTE = "backend.json"
_MOVE = "`llmdeploy init --migrate-state` moves it"


@dataclass(frozen=True)
class Backend:
    """Where a state lies and what it is encrypted with. An empty bucket stands for the folder beside the stack file.

    kms_key is the service's, with which S3 encrypts objects; seal_passphrase (a reference) and seal_kms_key are llmdeploy's own.
    """

    stack: str = ""
    bucket: str = ""
    region: str = ""
    prefix: str = ""
    kms_key: str = ""
    seal_passphrase: str = ""
    seal_kms_key: str = ""

    @property
    def path(self) -> str:
        """The folder in the bucket."""
        return f"{self.prefix}/{self.stack}" if self.prefix else self.stack

    @property
    def where(self) -> str:
        """The place, for people."""
        return f"s3://{self.bucket}/{self.path}" if self.bucket else f"{STATE_FOLDER}/ beside the stack file"

    def __str__(self) -> str:
        return f"{self.where}, encrypted by llmdeploy" if self.sealed else self.where

    @property
    def sealed(self) -> bool:
        """Whether llmdeploy encrypts it."""
        return bool(self.seal_passphrase or self.seal_kms_key)

    @property
    def remote(self) -> bool:
        """Whether reading it needs a service: a bucket, or a key of KMS."""
        return bool(self.bucket or self.seal_kms_key)

    def same_place(self, other: Backend) -> bool:
        """Return whether both name the same place, encrypted with the same key or, in `self`, not encrypted."""
        seals = (other.seal_passphrase, other.seal_kms_key) if self.sealed else ("", "")
        return (self.where, self.seal_passphrase, self.seal_kms_key) == (other.where, *seals)

    def store(self, site: Site, *, older: Backend | None = None) -> Store:
        """Return the store. What is still sealed as `older` says can be read too."""
        older_keys = older.keys(site) if older else None
        keys = self.keys(site)
        seal = Seal(keys, older_keys) if keys or older_keys else None
        if not self.bucket:
            return LocalStore(site.folder / STATE_FOLDER, seal=seal)
        from .state.s3 import S3Store

        return S3Store(self.boto(), self.path, self.where, warn=site.warn, seal=seal)

    def boto(self) -> BotoBucket:
        """Return the bucket."""
        from .state.boto import BotoBucket

        return BotoBucket(self.bucket, self.region, kms_key=self.kms_key or None)

    def keys(self, site: Site) -> Keys | None:
        """Return where the keys come from with which llmdeploy encrypts; None when it does not."""
        if self.seal_kms_key:
            return Kms(self.seal_kms_key, self.region or None)
        if self.seal_passphrase:
            reference = self.seal_passphrase
            return Passphrase(lambda: secret.resolve(reference, folder=site.folder, environ=site.environ).reveal())
        return None


def backend_of(inputs: Inputs, registry: Registry) -> Backend:
    """Return where the state of this stack lies.

    Raises:
        StateError: the stack file says another place than the one where the state is.
        StackError: the stack file cannot be read, and nothing tells where a state could be.
    """
    noted = noted_backend(inputs.folder)
    try:
        asked = asked_backend(inputs, registry)
    except StackError:
        if noted is None and not (inputs.folder / STATE_FOLDER).is_dir():
            raise
        return noted or Backend()
    if asked is None:
        return noted or Backend()
    if noted is not None and not noted.same_place(asked):
        raise StateError(
            f"the state of this stack lies in {noted}; the stack file says {asked}",
            hint=f"{_MOVE}; or give the stack file its old `state:` and name back",
        )
    if noted is None and asked.bucket:
        _refuse_local_state(inputs, asked)
    return asked


def asked_backend(inputs: Inputs, registry: Registry) -> Backend | None:
    """Return what the stack file says; None when there is no such file.

    Raises:
        StackError: it is wrong.
    """
    file = inputs.path / FILE_NAME if inputs.path.is_dir() else inputs.path
    try:
        content = file.read_bytes()
    except OSError:
        return None
    if b"state" not in content:
        return Backend()  # most files say nothing about it, and need not be read in full for that
    return place_of(load(inputs, registry).stack)


def place_of(stack: Stack) -> Backend:
    """Return where a stack file says that the state lies."""
    s3, encryption = stack.state.s3, stack.state.encryption
    place = Backend(stack.name, s3.bucket, s3.region, s3.prefix or "", s3.kms_key or "") if s3 else Backend()
    if encryption is None:
        return place
    seal = {"seal_passphrase": encryption.passphrase or "", "seal_kms_key": encryption.kms_key or ""}
    return Backend(**{**asdict(place), **seal})


def noted_backend(folder: Path) -> Backend | None:
    """Return what was used last; None when that was the plain folder beside the stack file.

    Raises:
        StateCorrupt: the note cannot be read.
    """
    file = folder / STATE_FOLDER / _NOTE
    try:
        document: Any = json.loads(file.read_bytes())
        return Backend(**document)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError):
        raise StateCorrupt(
            f"{file} is damaged: it says where the state lies", hint="remove it: the stack file says it too"
        ) from None


def note(folder: Path, backend: Backend) -> None:
    """Keep where the state lies. It is written whole, or not at all."""
    file = folder / STATE_FOLDER / _NOTE
    try:
        if backend == Backend():
            file.unlink(missing_ok=True)
        elif noted_backend(folder) != backend:
            secret.write_private(file, (json.dumps(asdict(backend), indent=1) + "\n").encode())
    except OSError as error:
        raise StateError(f"cannot write {file}: {error.strerror}", hint="check the rights of that folder") from None


def check(inputs: Inputs, registry: Registry) -> tuple[Backend, list[str]]:
    """Try whether the place that the stack file names can hold a state, and whether the key that it names opens what it seals.

    Returns:
        the place, and what is not as it should be, in sentences.

    Raises:
        StateError: it cannot.
    """
    asked = asked_backend(inputs, registry) or Backend()
    keys = asked.keys(Site(inputs.folder, inputs.environ))
    if keys is not None:
        seal = Seal(keys)
        envelope = seal.seal(b"probe", Bound("probe", 0))
        if envelope is None or seal.open(envelope, "a probe", kind="state") != b"probe":
            raise StateError("what was encrypted cannot be opened again", hint="look at state.encryption")
    if not asked.bucket:
        return asked, []
    from .state.check import check_bucket

    return asked, check_bucket(asked.boto(), asked.path, asked.where)


def migrate(inputs: Inputs, registry: Registry, warn: Callable[[str], None]) -> tuple[Backend, Backend, State]:
    """Move the state to where the stack file says, or give it the key that the stack file names. Safe to repeat.

    Returns:
        where it was, where it is, and the state.

    Raises:
        StateError: there is nothing to move, or something else lies there.
    """
    source, target = noted_backend(inputs.folder) or Backend(), asked_backend(inputs, registry)
    if target is None:
        raise StateError(f"there is no stack file in {inputs.folder}", hint="it says where the state shall lie: `state:`")
    if source == target:
        raise StateError(f"the state lies in {source} already: there is nothing to move")
    site = Site(inputs.folder, inputs.environ, warn)
    if source.where == target.where:
        state = _sealed_anew(source, target, site)
    else:
        check(inputs, registry)
        state = _moved(source, target, site)
    note(inputs.folder, target)
    return source, target, state


def _sealed_anew(source: Backend, target: Backend, site: Site) -> State:
    store = target.store(site, older=source)
    with store.lock("change the state's encryption", 0):
        state = store.read()
        if state is None:
            raise StateError(f"there is no state in {source.where}: there is nothing to encrypt")
        state = replace(state, serial=state.serial + 1)
        store.begin(state)
        store.write(state)
    return state


def _moved(source: Backend, target: Backend, site: Site) -> State:
    old, new = source.store(site), target.store(site)
    with old.lock("move the state", 0), new.lock("move the state", 0):
        there = _lineage_and_state(new)
        state = _lineage_and_state(old)[1]
        if state is None and there[1] is not None:
            return there[1]  # moved by a try that was interrupted before it was noted
        if state is None:
            raise StateError(f"there is no state in {source.where}: there is nothing to move")
        _check_target(target, state, *there)
        old.begin(state)
        old.write(state)
        new.begin(state)
        new.write(state)
        back = new.read()
        if back is None or replace(back, serial=state.serial) != state:
            raise StateError(f"what was written to {target.where} is not what is read there", hint="the state was not moved")
        old.retire(target.where)
    return state


def _lineage_and_state(store: Store) -> tuple[str, State | None]:
    """Return what lies there; of a state that was moved away, only the lineage."""
    try:
        state = store.read()
    except Moved as moved:
        return moved.lineage, None
    return (state.lineage, state) if state else ("", None)


def _check_target(target: Backend, state: State, lineage: str, there: State | None) -> None:
    if lineage not in ("", state.lineage) or (there is not None and there.serial > state.serial):
        raise StateError(
            f"{target.where} holds another or a newer state (lineage {lineage})", hint="name another bucket, prefix or stack"
        )
    if target.bucket and state.entries and target.stack != state.stack:
        raise StateError(
            f'the state is that of the stack "{state.stack}"; the stack file is named "{target.stack}"',
            hint="a stack cannot be renamed: give back its name, or destroy it first",
        )


def _refuse_local_state(inputs: Inputs, asked: Backend) -> None:
    folder = inputs.folder / STATE_FOLDER
    state = LocalStore(folder).read() if folder.is_dir() else None
    if state is not None and state.entries:
        raise StateError(
            f"{folder} holds a state with {len(state.entries)} resources; the stack file says {asked.where}",
            hint=f"{_MOVE}; or write `state: {{local: {{}}}}`",
        )
