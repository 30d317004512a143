"""`api_key`: made once, crash-safe at every point, rotated with overlap, revoked for good, never shown."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.sdk import LlmdeployError, NotOwned, Prior, Run
from llmdeploy_host._key_format import mint, parse
from llmdeploy_host.api_key import RESOURCE, ApiKeyOutputs, ApiKeySpec, Credential, key_file

from .keys_lab import context, drifted, prior_of, run_in

ADDRESS = "api_key.support"
DAY_S = 86_400
SPEC = ApiKeySpec(name="support", principal="label:support", requests_per_minute=60, concurrency=4, max_age_days=90)


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_in(tmp_path)


@pytest.fixture
def made(run: Run) -> ApiKeyOutputs:
    return RESOURCE.create(context(run, ADDRESS), SPEC)


def operate(run: Run, outputs: ApiKeyOutputs, name: str, **arguments: Any) -> tuple[Any, ApiKeyOutputs]:
    result = RESOURCE.operations[name](context(run, ADDRESS), prior_of(ADDRESS, SPEC, outputs), arguments)
    return result.data, ApiKeyOutputs.model_validate(result.outputs) if result.outputs is not None else outputs


def in_file(run: Run) -> str:
    return key_file(run, "support").read_text().removesuffix("\n")


def ids(outputs: ApiKeyOutputs) -> list[str]:
    return [credential.key_id for credential in outputs.credentials]


def test_the_file_is_private_and_holds_the_key_and_a_newline(run: Run, made: ApiKeyOutputs) -> None:
    path = run.folder / ".llmdeploy" / "keys" / "support.key"
    assert made.file == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().endswith("\n")
    key = parse(in_file(run))
    (credential,) = made.credentials
    assert (credential.key_id, credential.sha256, credential.location) == (key.key_id, key.sha256, str(path))
    assert credential.not_after - credential.not_before == 90 * DAY_S
    assert abs(credential.not_before - time.time()) < 60


def test_the_key_is_neither_in_state_nor_in_any_text(run: Run, made: ApiKeyOutputs) -> None:
    secret = in_file(run).split("_")[3]
    data, rotated = operate(run, made, "rotate")
    shown, _ = operate(run, rotated, "inspect")
    texts = [repr(made), str(made), json.dumps(made.tree()), json.dumps(rotated.tree()), json.dumps([data, shown])]
    assert all(secret not in text and in_file(run).split("_")[3] not in text for text in texts)


def test_a_repeated_create_makes_no_second_key(run: Run, made: ApiKeyOutputs) -> None:
    assert RESOURCE.create(context(run, ADDRESS), SPEC) == made


def test_a_crash_before_the_acknowledgement_loses_nothing(run: Run) -> None:
    def die(_id: str) -> None:
        raise Killed

    ctx = context(run, ADDRESS)
    ctx._on_acked = die  # pyright: ignore[reportPrivateUsage] - the process dies exactly there
    with pytest.raises(Killed):
        RESOURCE.create(ctx, SPEC)
    left = in_file(run)
    half = Prior(ADDRESS, "", SPEC.tree(), {}, status="creating")
    assert RESOURCE.read(run, half).drift == ()
    assert RESOURCE.create(context(run, ADDRESS), SPEC).credentials[0].key_id == parse(left).key_id
    assert in_file(run) == left


def test_a_crash_while_the_file_is_written_leaves_no_half_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", die)
        with pytest.raises(Killed):
            RESOURCE.create(context(run, ADDRESS), SPEC)
    assert not key_file(run, "support").exists()
    assert RESOURCE.create(context(run, ADDRESS), SPEC).credentials[0].key_id == parse(in_file(run)).key_id


def test_an_old_file_of_a_lost_state_is_not_taken_back_to_life(run: Run, made: ApiKeyOutputs) -> None:
    long_ago = time.time() - 91 * DAY_S
    os.utime(made.file, (long_ago, long_ago))
    fresh = RESOURCE.create(context(run, ADDRESS), SPEC)
    assert fresh.credentials[0].key_id != made.credentials[0].key_id
    assert fresh.credentials[0].not_after > time.time()


def test_a_file_of_somebody_else_is_never_overwritten(run: Run, made: ApiKeyOutputs) -> None:
    path = Path(made.file)
    path.write_text("my notes\n")
    with pytest.raises(NotOwned, match="holds no API key") as caught:
        RESOURCE.create(context(run, ADDRESS), SPEC)
    assert "notes" not in str(caught.value)
    with pytest.raises(NotOwned):
        operate(run, made, "rotate")
    prior = prior_of(ADDRESS, SPEC, made)
    assert RESOURCE.read(run, prior).drift == ()
    assert RESOURCE.update(context(run, ADDRESS), prior, SPEC) == made
    RESOURCE.delete(context(run, ADDRESS), prior)
    assert path.read_text() == "my notes\n"


def test_moving_the_file_away_is_no_drift(run: Run, made: ApiKeyOutputs) -> None:
    Path(made.file).unlink()
    prior = prior_of(ADDRESS, SPEC, made)
    assert RESOURCE.read(run, prior).drift == ()
    assert RESOURCE.update(context(run, ADDRESS), prior, SPEC) == made
    RESOURCE.delete(context(run, ADDRESS), prior)


def test_delete_removes_the_file(run: Run, made: ApiKeyOutputs) -> None:
    RESOURCE.delete(context(run, ADDRESS), prior_of(ADDRESS, SPEC, made))
    assert not Path(made.file).exists()


def test_rotation_overlaps(run: Run, made: ApiKeyOutputs) -> None:
    old, now = in_file(run), time.time()
    data, rotated = operate(run, made, "rotate", overlap_hours=2)
    new = parse(in_file(run))
    assert ids(rotated) == [new.key_id, parse(old).key_id]
    first, second = rotated.credentials
    assert 0 <= second.not_after - int(now) - 7200 < 60
    assert second.location is None
    assert first.not_after - first.not_before == 90 * DAY_S
    assert (data["key_id"], data["previous"][0]["key_id"]) == (new.key_id, parse(old).key_id)
    assert RESOURCE.read(run, prior_of(ADDRESS, SPEC, rotated)).drift == ()


def test_rotation_without_overlap_ends_the_old_key_at_once(run: Run, made: ApiKeyOutputs) -> None:
    _, rotated = operate(run, made, "rotate", overlap_hours=0)
    assert ids(rotated) == [parse(in_file(run)).key_id]
    assert rotated.ended == tuple(ids(made))


def test_rotation_never_lengthens_an_old_key(run: Run, made: ApiKeyOutputs) -> None:
    _, rotated = operate(run, made, "rotate", overlap_hours=8760)
    assert rotated.credentials[1].not_after == made.credentials[0].not_after
    updated = RESOURCE.update(context(run, ADDRESS), prior_of(ADDRESS, SPEC, rotated), SPEC)
    assert updated == rotated


@pytest.mark.parametrize("hours", [-1, "soon", True, 9000])
def test_a_wrong_overlap_is_refused_before_anything_happens(run: Run, made: ApiKeyOutputs, hours: object) -> None:
    before = in_file(run)
    with pytest.raises(LlmdeployError, match="overlap_hours"):
        operate(run, made, "rotate", overlap_hours=hours)
    assert in_file(run) == before


def test_an_interrupted_rotation_goes_on(run: Run, made: ApiKeyOutputs) -> None:
    operate(run, made, "rotate")  # its outputs are lost: the process died before they were stored
    new = parse(in_file(run)).key_id
    prior = drifted(RESOURCE, run, prior_of(ADDRESS, SPEC, made))
    assert [drift.sentence for drift in prior.drift] == [
        f"{made.file} holds a new key that is not in force: its rotation was interrupted"
    ]
    repaired = RESOURCE.update(context(run, ADDRESS), prior, SPEC)
    assert ids(repaired) == [new, *ids(made)]
    assert RESOURCE.read(run, prior_of(ADDRESS, SPEC, repaired)).drift == ()
    data, again = operate(run, made, "rotate")
    assert (data["key_id"], ids(again)) == (new, ids(repaired)), "asking once more takes the key that is there"


def test_revoke_of_all_ends_everything_and_removes_the_file(run: Run, made: ApiKeyOutputs) -> None:
    _, rotated = operate(run, made, "rotate")
    data, revoked = operate(run, rotated, "revoke")
    assert data == {"revoked": ids(rotated)}
    assert all(credential.revoked for credential in revoked.credentials)
    assert not Path(made.file).exists()
    shown, _ = operate(run, revoked, "inspect")
    assert shown["state"] == "revoked"


def test_revoke_of_one_leaves_the_other(run: Run, made: ApiKeyOutputs) -> None:
    _, rotated = operate(run, made, "rotate")
    new, old = ids(rotated)
    _, revoked = operate(run, rotated, "revoke", key_id=old)
    assert [(c.key_id, c.revoked) for c in revoked.credentials] == [(new, False), (old, True)]
    assert parse(in_file(run)).key_id == new
    with pytest.raises(LlmdeployError, match="no credential nonsense"):
        operate(run, rotated, "revoke", key_id="nonsense")


def test_after_the_current_key_is_revoked_the_old_one_does_not_live_longer(run: Run, made: ApiKeyOutputs) -> None:
    _, rotated = operate(run, made, "rotate", overlap_hours=1)
    _, revoked = operate(run, rotated, "revoke", key_id=ids(rotated)[0])
    for _ in range(2):
        revoked = RESOURCE.update(context(run, ADDRESS), prior_of(ADDRESS, SPEC, revoked), SPEC)
    assert revoked.credentials == (rotated.credentials[1],)


def test_a_revoked_key_from_a_backup_stays_dead(run: Run, made: ApiKeyOutputs) -> None:
    text = Path(made.file).read_text()
    _, revoked = operate(run, made, "revoke")
    pruned = RESOURCE.update(context(run, ADDRESS), prior_of(ADDRESS, SPEC, revoked), SPEC)
    assert pruned.credentials == ()
    Path(made.file).write_text(text)
    prior = prior_of(ADDRESS, SPEC, pruned)
    assert RESOURCE.read(run, prior).drift == ()
    assert RESOURCE.update(context(run, ADDRESS), prior, SPEC).credentials == ()
    data, rotated = operate(run, pruned, "rotate")
    assert data["key_id"] != ids(made)[0]
    assert len(rotated.credentials) == 1


def test_what_ended_is_dropped_with_the_next_update(run: Run, made: ApiKeyOutputs) -> None:
    old = Credential(key_id="old00000", sha256="0" * 64, not_before=1, not_after=2, location=None)
    grown = made.model_copy(update={"credentials": (*made.credentials, old)})
    updated = RESOURCE.update(context(run, ADDRESS), prior_of(ADDRESS, SPEC, grown), SPEC)
    assert (updated.credentials, updated.ended) == (made.credentials, ("old00000",))


def test_another_age_changes_when_the_key_ends(run: Run, made: ApiKeyOutputs) -> None:
    spec = SPEC.model_copy(update={"max_age_days": 30})
    updated = RESOURCE.update(context(run, ADDRESS), prior_of(ADDRESS, SPEC, made), spec)
    (credential,) = updated.credentials
    assert credential.not_after - credential.not_before == 30 * DAY_S
    assert credential.sha256 == made.credentials[0].sha256


@pytest.mark.parametrize(("days", "state"), [(8, "live"), (6, "ends soon"), (-1, "ended")])
def test_inspect_tells_how_long_a_key_lives(run: Run, made: ApiKeyOutputs, days: int, state: str) -> None:
    credential = made.credentials[0].model_copy(update={"not_after": int(time.time()) + days * DAY_S + 60})
    shown, _ = operate(run, made.model_copy(update={"credentials": (credential,)}), "inspect")
    assert (shown["state"], shown["credentials"][0]["days_left"]) == (state, days)


def test_a_valid_key_of_another_stack_in_the_file_is_seen_as_a_rotation(run: Run, made: ApiKeyOutputs) -> None:
    Path(made.file).write_bytes(mint().secret.reveal())
    assert RESOURCE.read(run, prior_of(ADDRESS, SPEC, made)).drift
