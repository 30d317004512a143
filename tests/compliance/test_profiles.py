"""Profiles: what refuses a plan, and the repaired twin that passes."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from llmdeploy import pins
from llmdeploy.catalog import tiny_random
from llmdeploy.cli.session import open_session, planning
from llmdeploy.compliance import CONTROLS, PROFILES, resolve
from llmdeploy.desired import pinned
from llmdeploy.errors import StackError
from llmdeploy.plan import Plan

STACK = """\
version: 1
name: judged
model: {{id: {model}, context: 1K, concurrency: 2}}
compliance: [{profile}]
provider: {{local: {{}}}}
storage: {{{storage}}}
keys: [{{name: me, principal: me}}]
"""


def plan(folder: Path, *, profile: str, storage: str, model: str = "tiny-random", lock: bool = False) -> Plan:
    (folder / "stack.yaml").write_text(STACK.format(model=model, profile=profile, storage=storage))
    session = open_session(folder)
    if lock:
        path, content = pinned(session.inputs, session.registry)
        pins.write(path, content)
    with planning(session, session.desire()) as (made, _):
        return made


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model folder beside the stack file."""
    for name, content in tiny_random.files().items():
        path = tmp_path / "model" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return "./model"


@pytest.mark.parametrize("profile", ["airgapped", "hipaa", "gdpr", "pci-dss", "soc2"])
@pytest.mark.parametrize(
    ("storage", "control", "line"),
    [("encryption: none", "ENC-01", 6), ("encryption: gocryptfs", "ENC-03", 6)],
)
def test_a_profile_refuses_and_its_repaired_twin_passes(
    tmp_path: Path, profile: str, storage: str, control: str, line: int
) -> None:
    with pytest.raises(StackError) as refused:
        plan(tmp_path, profile=profile, storage=storage)
    assert control in str(refused.value)
    assert f"stack.yaml:{line}:" in str(refused.value)
    assert not (tmp_path / ".llmdeploy").exists()
    assert plan(tmp_path, profile=profile, storage='key: "env:VOLUME_KEY"').counts["create"] == 12


@pytest.mark.parametrize("profile", ["hipaa", "soc2", "eu-ai-act"])
def test_files_that_can_change_are_refused_until_they_are_locked(tmp_path: Path, model: str, profile: str) -> None:
    key = 'key: "env:VOLUME_KEY"'
    with pytest.raises(StackError, match=r"SUP-01.*llmdeploy lock"):
        plan(tmp_path, profile=profile, storage=key, model=model)
    assert plan(tmp_path, profile=profile, storage=key, model=model, lock=True).counts["create"] == 12


def test_without_a_profile_plain_storage_is_only_said_loudly(tmp_path: Path) -> None:
    made = plan(tmp_path, profile="none", storage="encryption: none")
    assert any("host_volume.local" in warning for warning in made.warnings)


def test_the_order_of_profiles_never_matters() -> None:
    for chosen in (("hipaa", "gdpr", "soc2"), ("airgapped", "pci-dss", "none")):
        assert len({resolve(order) for order in permutations(chosen)}) == 1


def test_controls_name_known_profiles_and_never_the_forbidden_word() -> None:
    for control in CONTROLS:
        assert control.profiles <= set(PROFILES)
        assert "compliant" not in f"{control.demand} {control.refused} {control.way_out}".lower()


def test_a_model_that_is_not_there_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"stack\.yaml:3:\d+: error: model\.id: there is no folder"):
        plan(tmp_path, profile="none", storage="", model="./nope")
