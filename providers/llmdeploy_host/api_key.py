"""`api_key`: a key for one principal, made once and handed over in a file. Gateways get its hash."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from llmdeploy.sdk import (
    EVIDENCE,
    Context,
    Drift,
    LlmdeployError,
    ManagedType,
    NotOwned,
    Observation,
    OperationResult,
    Outputs,
    Prior,
    ProviderError,
    ReadResult,
    Run,
    Spec,
    Traits,
    Tree,
    observed,
    write_private,
)

from ._evidence import custody_of, private_file
from ._key_format import ApiKey, mint, parse

DEFAULT_OVERLAP_HOURS = 24
_DAY_S = 86_400


class ApiKeySpec(Spec):
    """Who may use the key and how much. The limits are the gateway's to enforce; max_age_days ends the key itself."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    principal: Annotated[str, Field(min_length=1)]
    requests_per_minute: Annotated[int, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1)]
    max_age_days: Annotated[int, Field(ge=1)]
    allow_fallback: bool = False


class Credential(BaseModel):
    """One key that is or was valid, without the key. Times are seconds since 1970; location is None when no file holds it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key_id: str
    sha256: str
    not_before: int
    not_after: int
    location: str | None
    revoked: bool = False


class ApiKeyOutputs(Outputs):
    """The key's file, its credentials (the current one first), and the ids of those that ended, which never come back."""

    file: str
    credentials: tuple[Credential, ...]
    ended: tuple[str, ...] = ()


class ApiKeyType(ManagedType[ApiKeySpec, ApiKeyOutputs]):
    """A key is written before anything knows it, so that an interrupted run finds it in its file and makes no second one."""

    name: ClassVar[str] = "api_key"
    converges: ClassVar[bool] = True
    spec = ApiKeySpec
    outputs = ApiKeyOutputs
    changing_outputs: ClassVar[frozenset[str]] = frozenset({"file", "credentials", "ended"})

    def __init__(self) -> None:
        self.operations = {"inspect": _inspect, "rotate": _rotate, "revoke": _revoke, EVIDENCE: _look}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Return where the key lies, whose it is, and how long it is valid."""
        return Traits(
            custody="operator-file",
            secret="api-key",  # noqa: S106 - the kind of a secret
            principal=values["principal"],
            max_age_days=values["max_age_days"],
            private=True,
        )

    def create(self, ctx: Context, spec: ApiKeySpec) -> ApiKeyOutputs:
        """Make the key, or take the one that an interrupted try left in the file."""
        path, now = key_file(ctx.run, spec.name), int(time.time())
        credential = _in_file(path, spec.max_age_days, now)
        if credential is None or credential.not_after <= now:
            credential = _new(path, spec.max_age_days, now)
        ctx.acked(credential.key_id)
        return ApiKeyOutputs(file=str(path), credentials=(credential,))

    def update(self, ctx: Context, prior: Prior, spec: ApiKeySpec) -> ApiKeyOutputs:
        """Take over a key that an interrupted rotation left, apply a new age, and drop what has ended."""
        kept, now = ApiKeyOutputs.model_validate(prior.outputs), int(time.time())
        with suppress(NotOwned):
            adopted = _unknown_key(ctx.run, spec, kept, now)
            kept = _succeed(kept, adopted, now + DEFAULT_OVERLAP_HOURS * 3600) if adopted else kept
        return _pruned(_aged(kept, spec.max_age_days), now)

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Remove the file, if it is still there and still holds a key."""
        spec = prior.spec_as(ApiKeySpec)
        path = key_file(ctx.run, spec.name)
        with suppress(NotOwned):
            _in_file(path, spec.max_age_days, int(time.time()))
            path.unlink(missing_ok=True)

    def read(self, run: Run, prior: Prior) -> ReadResult:
        """See whether the file holds a key that no gateway was told of. That the file is gone is its owner's choice."""
        if not prior.outputs:
            return ReadResult(prior.address)
        kept, spec = ApiKeyOutputs.model_validate(prior.outputs), prior.spec_as(ApiKeySpec)
        drift: tuple[Drift, ...] = ()
        try:
            if _unknown_key(run, spec, kept, int(time.time())) is not None:
                drift = (Drift("credentials", f"{kept.file} holds a new key that is not in force: its rotation was interrupted"),)
        except NotOwned:
            # What its owner put there is no part of the stack; the credentials work as before.
            pass
        except ProviderError as error:
            return ReadResult(prior.address, error=error.message)
        return ReadResult(prior.address, drift=drift)


def key_file(run: Run, name: str) -> Path:
    """Return where the key `name` is handed over."""
    return run.folder.absolute() / ".llmdeploy" / "keys" / f"{name}.key"


# --- operations -------------------------------------------------------------------------------------------------------------


def _inspect(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """Tell the state of the key: live, ends soon (7 days), ended, revoked; and each credential without its hash."""
    del ctx, arguments
    kept, now = ApiKeyOutputs.model_validate(prior.outputs), int(time.time())
    found = [
        {
            "key_id": credential.key_id,
            "state": _state(credential, now),
            "days_left": (credential.not_after - now) // _DAY_S,
            "file": credential.location if credential.location and Path(credential.location).exists() else None,
        }
        for credential in kept.credentials
    ]
    return OperationResult({"state": found[0]["state"] if found else "ended", "file": kept.file, "credentials": found})


def _rotate(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """Make a new key beside the old one, which ends after `overlap_hours`. The new one is in force once a gateway knows it."""
    spec, kept, now = prior.spec_as(ApiKeySpec), ApiKeyOutputs.model_validate(prior.outputs), int(time.time())
    overlap_hours = _overlap_hours(arguments)
    credential = _unknown_key(ctx.run, spec, kept, now) or _new(key_file(ctx.run, spec.name), spec.max_age_days, now)
    before = [old for old in kept.credentials if _state(old, now) not in ("ended", "revoked")]
    outputs = _pruned(_succeed(kept, credential, now + int(overlap_hours * 3600)), now)
    data = {
        "key_id": credential.key_id,
        "file": credential.location,
        "not_after": credential.not_after,
        "previous": [{"key_id": c.key_id, "not_after": c.not_after} for c in outputs.credentials[1:] if c.key_id in _ids(before)],
    }
    return OperationResult(data, outputs.tree())


def _revoke(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """End one credential (`key_id`) or all of them at once, and remove the file that holds it."""
    kept, wanted = ApiKeyOutputs.model_validate(prior.outputs), arguments.get("key_id")
    hit = [c for c in kept.credentials if wanted in (None, c.key_id)]
    if wanted is not None and not hit:
        known = ", ".join(c.key_id for c in kept.credentials) or "none"
        raise LlmdeployError(f"{prior.address} has no credential {wanted}", hint=f"it has: {known}")
    spec = prior.spec_as(ApiKeySpec)
    path = key_file(ctx.run, spec.name)
    try:
        in_file = _in_file(path, spec.max_age_days, int(time.time()))
    except NotOwned:
        in_file = None
    if in_file is not None and (wanted is None or in_file.key_id == wanted):
        path.unlink(missing_ok=True)
    credentials = tuple(c.model_copy(update={"revoked": True, "location": None}) if c in hit else c for c in kept.credentials)
    outputs = kept.model_copy(update={"credentials": credentials})
    return OperationResult({"revoked": [c.key_id for c in hit]}, outputs.tree())


def _look(ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
    """See who else can read the key's file, where the key lies, and how long its credentials are valid."""
    del arguments
    kept, spec = ApiKeyOutputs.model_validate(prior.outputs), prior.spec_as(ApiKeySpec)
    path = key_file(ctx.run, spec.name)
    gone = () if path.exists() else _handed_over(path)
    return observed((*(gone or (private_file(path), custody_of(path, None))), _validity(kept, int(time.time()))))


def _handed_over(path: Path) -> tuple[Observation, ...]:
    """Return what can be told of a key whose file its owner took away: nobody finds it here any more."""
    command, output = f"ls -l {path}", f"{path} is not there: its owner took it away"
    told = {"private": True, "custody": "none"}
    return tuple(Observation(fact=fact, value=value, command=command, output=output) for fact, value in told.items())


def _validity(kept: ApiKeyOutputs, now: int) -> Observation:
    """Return the longest that a credential in force is valid; gateways are told the same times."""
    valid = [c for c in kept.credentials if _state(c, now) not in ("ended", "revoked")]
    told = "\n".join(f"{c.key_id}: {(c.not_after - now) // _DAY_S} days left" for c in valid) or "no credential is in force"
    days = max((-((c.not_before - c.not_after) // _DAY_S) for c in valid), default=0)
    return Observation(fact="max_age_days", value=days, command="llmdeploy keys list", output=told)


def _overlap_hours(arguments: Mapping[str, Tree]) -> float:
    hours = arguments.get("overlap_hours")
    if hours is None:
        return DEFAULT_OVERLAP_HOURS
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 <= hours <= 24 * 365:
        raise LlmdeployError(f"overlap_hours is {hours!r}", hint="give the hours that the old key still works, from 0 to 8760")
    return hours


def _state(credential: Credential, now: int) -> str:
    if credential.revoked:
        return "revoked"
    left_s = credential.not_after - now
    return "ended" if left_s <= 0 else "ends soon" if left_s < 7 * _DAY_S else "live"


# --- credentials as values --------------------------------------------------------------------------------------------------


def _ids(credentials: list[Credential]) -> set[str]:
    return {credential.key_id for credential in credentials}


def _succeed(kept: ApiKeyOutputs, credential: Credential, old_until: int) -> ApiKeyOutputs:
    """Put `credential` first; the others end by `old_until`, and the file no longer holds them."""
    old = (c.model_copy(update={"not_after": min(c.not_after, old_until), "location": None}) for c in kept.credentials)
    return kept.model_copy(update={"file": credential.location, "credentials": (credential, *old)})


def _aged(kept: ApiKeyOutputs, max_age_days: int) -> ApiKeyOutputs:
    """Give the current credential, the one with a file, the age that the stack file says now."""
    credentials = tuple(
        c.model_copy(update={"not_after": c.not_before + max_age_days * _DAY_S}) if c.location else c for c in kept.credentials
    )
    return kept.model_copy(update={"credentials": credentials})


def _pruned(kept: ApiKeyOutputs, now: int) -> ApiKeyOutputs:
    """Drop what has ended or was revoked, and remember its id: a file from a backup must not bring it back to life."""
    live = tuple(c for c in kept.credentials if _state(c, now) not in ("ended", "revoked"))
    gone = tuple(c.key_id for c in kept.credentials if c not in live)
    return kept.model_copy(update={"credentials": live, "ended": (*kept.ended, *gone)})


# --- the file ---------------------------------------------------------------------------------------------------------------


def _unknown_key(run: Run, spec: ApiKeySpec, kept: ApiKeyOutputs, now: int) -> Credential | None:
    """Return the key in the file when it is neither in force nor ended: then a rotation was interrupted after it was written."""
    found = _in_file(key_file(run, spec.name), spec.max_age_days, now)
    known = {*(c.key_id for c in kept.credentials), *kept.ended}
    return None if found is None or found.key_id in known or found.not_after <= now else found


def _in_file(path: Path, max_age_days: int, now: int) -> Credential | None:
    """Return the key in the file, as old as the file; None when there is none. Raises NotOwned when it holds something else."""
    try:
        text, written = path.read_text(encoding="ascii", errors="replace"), int(path.stat().st_mtime)
        return _credential(parse(text.removesuffix("\n")), path, max_age_days, min(written, now))
    except FileNotFoundError:
        return None
    except ValueError:
        raise NotOwned(f"{path} holds no API key of llmdeploy", hint="move that file away") from None
    except OSError as error:
        raise ProviderError(f"cannot read {path}: {error.strerror}", hint="check the rights of that file") from None


def _new(path: Path, max_age_days: int, now: int) -> Credential:
    key = mint()
    try:
        write_private(path, key.secret.reveal() + b"\n")
    except OSError as error:
        raise ProviderError(f"cannot write {path}: {error.strerror}", hint="check the rights of that folder") from None
    return _credential(key, path, max_age_days, now)


def _credential(key: ApiKey, path: Path, max_age_days: int, not_before: int) -> Credential:
    return Credential(
        key_id=key.key_id,
        sha256=key.sha256,
        not_before=not_before,
        not_after=not_before + max_age_days * _DAY_S,
        location=str(path),
    )


RESOURCE = ApiKeyType()
