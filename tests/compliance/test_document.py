"""How controls stand in a plan: what is not known is never kept, and what nobody states is never stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.compliance.stacks import HOSTS, LOCAL, Lines, compliance, planned, text


def standings(tmp_path: Path, lines: Lines, profiles: str, attest: str = "dpia: true, ropa: true") -> dict[str, str]:
    made = planned(tmp_path, text(lines, {"compliance": compliance(profiles, attest=attest)}))
    controls: Any = made.plan.compliance["controls"]
    return {one["id"]: one["standing"] for one in controls}


def test_a_control_is_kept_only_where_every_fact_is_known(tmp_path: Path) -> None:
    found = standings(tmp_path, LOCAL, "pci-dss")
    # What the engine on this machine can reach is known of its process only, whatever the gateway sends.
    assert found["NET-03"] == "after_apply"
    assert found["ENC-01"] == "kept"


def test_formats_of_files_that_nobody_listed_are_not_known(tmp_path: Path) -> None:
    assert standings(tmp_path, HOSTS, "airgapped", "mirrors: true")["SUP-02"] == "after_apply"
    assert standings(tmp_path, LOCAL, "airgapped", "mirrors: true")["SUP-02"] == "kept"


def test_only_what_the_stack_file_states_is_stated(tmp_path: Path) -> None:
    assert standings(tmp_path, LOCAL, "hipaa")["BAA-01"] == "kept"
    assert standings(tmp_path, LOCAL, "hipaa", "baa: true")["BAA-01"] == "stated"
    assert standings(tmp_path, LOCAL, "gdpr")["DPA-01"] == "stated"
