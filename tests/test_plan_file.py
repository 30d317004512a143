from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmdeploy import plan_file
from llmdeploy.change import Change, Drift, FieldChange
from llmdeploy.errors import LlmdeployError, StalePlan
from llmdeploy.identity import Identity
from llmdeploy.plan import Plan
from llmdeploy.plan_file import (
    SavedPlan,
    check_files,
    check_target,
    check_world,
    find_stack,
    fingerprint,
    is_plan_file,
    load,
    save,
)
from llmdeploy.resource import UNKNOWN, Group, Ref, Resource, Tree
from llmdeploy.sdk import Found
from llmdeploy.state.model import Entry, State
from llmdeploy.traits import DataFlow, Traits
from tests.views import plans

LINEAGE = plans.LINEAGE
STATE = State(LINEAGE, "demo", 3, {"thing.a": Entry(address="thing.a", type="thing", provider="p")})

texts = st.text(max_size=8) | st.sampled_from(["$llmdeploy", "unknown", "ref", "mapping", "value", "\ud800", "\u2028", ""])
addresses = st.sampled_from(["host.a", "thing.b.c"])
special = st.just(UNKNOWN) | st.builds(Ref, addresses, texts)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | special
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=12
)
mappings = st.dictionaries(texts, trees, max_size=4)
LOOK_ALIKE: dict[str, Tree] = {
    "a": {"$llmdeploy": "unknown"},
    "b": {"$llmdeploy": "ref", "address": "host.a", "output": "x"},
    "c": {"$llmdeploy": "mapping", "value": {"$llmdeploy": UNKNOWN}},
    "$llmdeploy": {"$llmdeploy": {"$llmdeploy": Ref("host.a", "$llmdeploy")}},
}


def same(left: Tree, right: Tree) -> bool:
    """Compare and tell `1` from `True` and `1.0`."""
    return repr(left) == repr(right) and left == right


@settings(max_examples=150)
@given(mappings, mappings, mappings)
@example(LOOK_ALIKE, LOOK_ALIKE, {})
def test_whatever_a_plan_holds_comes_back(tmp_path_factory: Any, after: Any, before: Any, outputs: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "round-trip.plan"
    change = Change(
        "thing.a",
        "thing",
        "p",
        "replace",
        "why",
        before,
        after,
        (FieldChange("a.b", before, after, replaces=True),),
        (Drift("f", "s"),),
        resume=True,
        in_doubt=True,
        create_first=True,
        found="id",
        deposed=(1, 2),
        rollout=Group("g", 1, 2, "gate", None, "exit"),
        outputs=outputs,
        traits=Traits(region="eu", data_flows=(DataFlow(what="prompts", to="x"),), notes=("n",), pinned=True),
    )
    resource = Resource(
        "thing.a", "thing", "p", after, frozenset({"host.b", "host.a"}), "g", "path", prevent_destroy=True, rollout=Group("g")
    )
    plan = replace(
        plans.fresh(),
        changes=(change,),
        resources=(resource,),
        outputs=outputs,
        prior_outputs={name: 1 for name in outputs},
        found=(Found("thing.z", "thing", "p", "i", 7, {"n": 1}, {}),),
        variables={"a": 1, "b": True, "c": None},
        account={"p.account": "1"},
        targets=("thing.a",),
        provider_configs={"p": {"x": [1, {"y": None}]}},
    )
    saved = save(file, plan, Path("stack.yaml"), "0" * 64, STATE)
    found = load(file)
    assert found == saved
    assert same(found.plan.changes[0].after, after)
    assert same(found.plan.resources[0].values, after)
    assert same(found.plan.outputs, outputs)
    assert replace(found.plan, expires_at="") == plan


@pytest.mark.parametrize("make", [*plans.ALL, plans.unchanged], ids=lambda make: make.__name__)
def test_every_kind_of_plan_comes_back(tmp_path: Path, make: Any) -> None:
    saved = save(tmp_path / "p", make(), tmp_path / "stack.yaml", "", None)
    assert load(tmp_path / "p") == saved
    assert saved.id == saved.digest[:12]


def test_the_same_plan_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name, plans.fresh(), tmp_path / "stack.yaml", "", None)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "p"
    save(file, plans.fresh(), tmp_path / "stack.yaml", "", None)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["p"]


# --- what is not a whole plan file -------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save(tmp_path / "p", plans.fresh(), tmp_path / "stack.yaml", "", None)
    return tmp_path / "p"


def test_every_truncation_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for size in range(1, len(whole) - 1, 97):
        file.write_bytes(whole[:size])
        with pytest.raises(LlmdeployError, match="truncated or damaged"):
            load(file)


def test_every_changed_byte_is_refused(file: Path) -> None:
    whole = file.read_bytes().rstrip(b"\n")
    for position in range(0, len(whole), 53):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(LlmdeployError):
            load(file)


def test_a_hand_edit_is_refused_in_one_sentence(file: Path) -> None:
    file.write_text(file.read_text().replace('"limit":60', '"limit":6000'))
    with pytest.raises(LlmdeployError, match="was changed after it was written") as caught:
        load(file)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def forged(file: Path, **changes: Any) -> None:
    """Write the file with other content and a digest that fits."""
    content = {**json.loads(file.read_text()), **changes}
    content.pop("sha256")
    content["sha256"] = sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    file.write_text(json.dumps(content, separators=(",", ":")))


def test_a_newer_format_is_refused_by_its_name(file: Path) -> None:
    forged(file, llmdeploy_plan=2, llmdeploy_version="9.9.9")
    with pytest.raises(LlmdeployError, match=r"written by llmdeploy 9\.9\.9 in plan format 2") as caught:
        load(file)
    assert "use that version" in caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [{"plan": {}}, {"plan": []}, {"plan": {"$llmdeploy": "ref"}}, {"origin": {}}, {"plan": {"stack": 1, "mode": "nonsense"}}],
    ids=str,
)
def test_a_forged_file_without_a_plan_is_refused(file: Path, changes: Mapping[str, Any]) -> None:
    forged(file, **changes)
    with pytest.raises(LlmdeployError, match="not a whole plan file"):
        load(file)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LlmdeployError, match="cannot read"):
        load(tmp_path / "none")


def test_content_makes_a_plan_file(file: Path, tmp_path: Path) -> None:
    assert is_plan_file(file)
    (tmp_path / "stack.yaml").write_bytes(file.read_bytes()[:40])
    assert is_plan_file(tmp_path / "stack.yaml")
    for content in (b"", b"version: 1\n", b"PK\x03\x04", b"\xff\xfe", b'{"version": 1}'):
        (tmp_path / "p.plan").write_bytes(content)
        assert not is_plan_file(tmp_path / "p.plan")
    assert not is_plan_file(tmp_path)
    assert not is_plan_file(tmp_path / "none")
    assert not is_plan_file(Path("a\0b"))


def test_the_json_view_is_not_taken_for_a_plan(tmp_path: Path) -> None:
    from llmdeploy.views.document import dumps
    from llmdeploy.views.json_view import plan_document

    (tmp_path / "p.json").write_text(dumps(plan_document(plans.fresh())))
    with pytest.raises(LlmdeployError, match="not a saved plan"):
        is_plan_file(tmp_path / "p.json")


# --- where it is written -----------------------------------------------------------------------------------------------------


def test_an_older_plan_is_overwritten_and_nothing_else(file: Path, tmp_path: Path) -> None:
    check_target(file)
    file.write_bytes(file.read_bytes()[:200])
    check_target(file)
    (tmp_path / "empty").touch()
    check_target(tmp_path / "empty")
    (tmp_path / "stack.yaml").write_text("version: 1\n")
    for target, sentence in (
        (tmp_path / "stack.yaml", "is no plan"),
        (tmp_path, "it is no file"),
        (Path("/dev/null"), "it is no file"),
        (tmp_path / "none" / "p", "there is no folder"),
    ):
        with pytest.raises(LlmdeployError, match=sentence):
            check_target(target)


def test_a_full_or_closed_folder_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(target: Path, content: bytes) -> None:
        target.with_name(f".{target.name}.new").write_bytes(content[:10])
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(plan_file, "write_private", fail)
    with pytest.raises(LlmdeployError, match=r"cannot write .*: Permission denied"):
        save(tmp_path / "p", plans.fresh(), tmp_path / "stack.yaml", "", None)
    assert list(tmp_path.iterdir()) == []


# --- whether it may be applied -----------------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 2, 4, 0, 0, tzinfo=UTC)


def saved_of(folder: Path, plan: Plan, state: State | None) -> tuple[SavedPlan, Path, Path]:
    stack = folder / "stack.yaml"
    stack.write_text("version: 1\n")
    (folder / "stack.lock.yaml").write_text("pins\n")
    lock = sha256(b"pins\n").hexdigest()
    saved = save(folder / "p", replace(plan, lock_sha256=lock), stack, sha256(stack.read_bytes()).hexdigest(), state)
    return saved, folder / "p", stack


def test_nothing_moved(tmp_path: Path) -> None:
    saved, file, stack = saved_of(tmp_path, plans.changed(), STATE)
    check_files(saved, file, stack, NOW)
    check_world(saved, file, STATE, {})
    assert saved.plan.expires_at == "2026-01-03T03:04:05+00:00"


def test_files_moved(tmp_path: Path) -> None:
    saved, file, stack = saved_of(tmp_path, plans.changed(), STATE)
    with pytest.raises(StalePlan, match=r"made by llmdeploy 9\.9, and this is") as caught:
        check_files(replace(saved, writer="9.9"), file, stack, NOW)
    assert caught.value.hint == "nothing was touched; run `llmdeploy plan --out` again"
    check_files(saved, file, stack, NOW + timedelta(hours=23))
    with pytest.raises(StalePlan, match=r"could be applied until 2026-01-03T03:04:05\+00:00"):
        check_files(saved, file, stack, NOW + timedelta(hours=24))
    (tmp_path / "stack.lock.yaml").write_text("others\n")
    with pytest.raises(StalePlan, match=r"stack\.lock\.yaml changed since"):
        check_files(saved, file, stack, NOW)
    stack.write_text("version: 1\n\n")
    with pytest.raises(StalePlan, match=r"stack\.yaml changed since"):
        check_files(saved, file, stack, NOW)
    stack.unlink()
    with pytest.raises(StalePlan, match=r"stack\.yaml changed since"):
        check_files(saved, file, stack, NOW)


def test_a_destroy_needs_no_stack_file(tmp_path: Path) -> None:
    saved = save(tmp_path / "p", plans.destroyed(), tmp_path, "", STATE)
    assert find_stack(saved, tmp_path / "p").resolve() == tmp_path
    check_files(saved, tmp_path / "p", tmp_path, NOW)


FIRST = replace(plans.fresh(), identity=Identity("demo", None), serial=0)
HALF = replace(STATE, serial=0)


@pytest.mark.parametrize(
    ("plan", "then", "now", "sentence"),
    [
        (plans.changed(), STATE, replace(STATE, serial=4), "state serial 3 then, 4 now"),
        (plans.changed(), STATE, replace(STATE, lineage="f" * 32), "another state"),
        (plans.changed(), STATE, None, "here none"),
        (plans.changed(), STATE, replace(STATE, entries={}), "begun since and did not end"),
        (FIRST, None, replace(STATE, serial=1), "state serial 0 then, 1 now"),
        (FIRST, None, HALF, "begun since and did not end"),
    ],
)
def test_the_state_moved(tmp_path: Path, plan: Plan, then: State | None, now: State | None, sentence: str) -> None:
    saved, file, _ = saved_of(tmp_path, plan, then)
    with pytest.raises(StalePlan, match=sentence):
        check_world(saved, file, now, {})


@pytest.mark.parametrize("now", [None, State("f" * 32, "demo")])
def test_the_first_plan_knows_no_lineage(tmp_path: Path, now: State | None) -> None:
    saved, file, _ = saved_of(tmp_path, FIRST, None)
    check_world(saved, file, now, {})


@pytest.mark.parametrize("account", [{}, {"p.account": "2"}, {"p.account": "1", "p.region": "x"}])
def test_another_account(tmp_path: Path, account: Mapping[str, str]) -> None:
    saved, file, _ = saved_of(tmp_path, replace(plans.changed(), account={"p.account": "1"}), STATE)
    check_world(saved, file, STATE, {"p.account": "1"})
    with pytest.raises(StalePlan, match="made for another"):
        check_world(saved, file, STATE, account)


def test_a_fingerprint_tells_what_a_killed_run_did() -> None:
    assert fingerprint(None) == fingerprint(State("a", "demo")) == ""
    entry = STATE.entries["thing.a"].model_copy(update={"steps": ("one",)})
    assert fingerprint(STATE) != fingerprint(STATE.with_entry(entry))


# --- where the stack is ------------------------------------------------------------------------------------------------------


def test_the_stack_is_found_from_here_and_from_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = tmp_path / "prod" / "stack.yaml"
    stack.parent.mkdir()
    stack.write_text("version: 1\n")
    (tmp_path / "plans").mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "plans" / "p"
    saved = save(Path("plans/p"), plans.fresh(), Path("prod/stack.yaml"), sha256(stack.read_bytes()).hexdigest(), None)
    assert find_stack(saved, Path("plans/p")) == Path("prod/stack.yaml")
    monkeypatch.chdir(tmp_path / "plans")
    assert find_stack(saved, file).samefile(stack)
    assert find_stack(saved, Path("p")).samefile(stack)
    # Another stack that happens to lie at the recorded place is not taken for it.
    other = tmp_path / "plans" / "prod" / "stack.yaml"
    other.parent.mkdir()
    other.write_text("version: 1 # other\n")
    assert find_stack(saved, file).samefile(stack)
    stack.unlink()
    assert find_stack(saved, file).samefile(other)
    other.unlink()
    with pytest.raises(StalePlan, match="looked for") as caught:
        find_stack(saved, file)
    assert "prod/stack.yaml" in caught.value.message
    assert str(tmp_path / "plans") in caught.value.message
