from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmdeploy.sdk import UNKNOWN, Drift, Identity, LlmdeployError, Manifest, Prior, Run, SecretError
from llmdeploy_host._connection import Connection
from llmdeploy_host.host_weights import (
    RESOURCE,
    WeightsSpec,
    _curl_config,  # pyright: ignore[reportPrivateUsage] - what it keeps from leaking is best seen by itself
    _stdin,  # pyright: ignore[reportPrivateUsage] - as above
    preflight_problems,
    preflight_script,
    probe_script,
    weights_script,
)
from tests.support import require_tool

from .weights_lab import manifest

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "templates/it's.jinja".replace("'", "_"): b"x"}
HUB = manifest("hub", "org/name", FILES, "https://hub.example.com/org/name/resolve/abc/{}".format)
FOLDER = manifest("folder", "/srv/it's a model", FILES)
GENERATED = manifest("generated", "tiny-random", FILES)
IDENTITY = Identity("x", "1234567890abcdef")


def spec(wanted: Manifest, **values: Any) -> WeightsSpec:
    return WeightsSpec(host=Connection(), volume="/v", user="llmd-1", manifest=wanted.model_dump(), **values)


def prior(wanted: Manifest, drift: tuple[Drift, ...] = ()) -> Prior:
    outputs = RESOURCE.predict(spec(wanted).tree(), IDENTITY)
    return Prior("host_weights.a", "/v/weights", spec(wanted).tree(), outputs, drift=drift)


def run_with(environ: Mapping[str, str], files: Mapping[str, bytes] | None = None) -> Run:
    return Run(IDENTITY, Path("/nowhere"), environ, lambda _location: files or {})


@pytest.mark.parametrize("wanted", [HUB, FOLDER, GENERATED], ids=lambda wanted: wanted.kind)
def test_every_rendering_passes_shellcheck(wanted: Manifest, tmp_path: Path) -> None:
    require_tool("shellcheck")
    scripts = [
        "set -eu\n" + weights_script("/v it's", "llmd-1", wanted),
        "set -eu\n" + weights_script("/v", "llmd-1", wanted, trusted=False),
        f"(\n{probe_script(spec(wanted))}\n)",
        f"(\n{probe_script(spec(wanted), verify=True)}\n)",
        preflight_script(spec(wanted)),
    ]
    for number, script in enumerate(scripts):
        (tmp_path / f"{number}.sh").write_text(f"#!/bin/sh\n{script}")
    found = subprocess.run(
        ["shellcheck", "--severity=style", *sorted(map(str, tmp_path.iterdir()))], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_a_script_holds_no_token_and_quotes_what_it_is_given() -> None:
    script = weights_script("/v it's", "llmd-1", FOLDER)
    assert "volume='/v it'\"'\"'s'" in script
    assert "source='/srv/it'\"'\"'s a model'" in script


def test_outputs_are_known_before_apply() -> None:
    values = spec(HUB).tree()
    assert RESOURCE.predict(values, IDENTITY) == {"path": "/v/weights", "digest": HUB.digest, "size_bytes": HUB.size_bytes}
    assert RESOURCE.predict({**values, "volume": UNKNOWN}, IDENTITY) == {"digest": HUB.digest, "size_bytes": HUB.size_bytes}


def test_a_create_says_what_it_brings() -> None:
    change = RESOURCE.plan(None, spec(HUB).tree())
    assert change.action == "create"
    assert change.details == ("downloads 3 files (0.00 GB) from org/name, each verified by its SHA-256",)


def test_another_mirror_is_no_change() -> None:
    mirror = manifest("hub", "org/name", FILES, "https://mirror.example.com/org/name/resolve/abc/{}".format)
    assert RESOURCE.plan(prior(HUB), spec(mirror, token="env:OTHER").tree()).action == "no-op"


def test_another_file_is_an_update_that_names_it() -> None:
    other = manifest("folder", "/srv/x", {**FILES, "model.safetensors": b"WEIGHTS"})
    change = RESOURCE.plan(prior(FOLDER), spec(other).tree())
    assert change.action == "update"
    assert [field.path for field in change.fields] == ["manifest.files.model.safetensors"]
    assert change.details == ("copies 1 file (0.00 GB) from /srv/x, each verified by its SHA-256",)


def test_drift_is_an_update_with_its_sentence() -> None:
    change = RESOURCE.plan(prior(HUB, (Drift("content", "model.safetensors: content differs"),)), spec(HUB).tree())
    assert (change.action, change.reason) == ("update", "model.safetensors: content differs")


def test_what_is_gone_is_made_again() -> None:
    gone = Prior("host_weights.a", "/v/weights", spec(HUB).tree(), {}, exists=False)
    assert RESOURCE.plan(gone, spec(HUB).tree()).action == "create"


@pytest.mark.parametrize(
    ("facts", "exists", "sentences"),
    [
        ({"volume": "yes", "digest": HUB.digest}, True, []),
        ({"volume": "no"}, True, ["weights: the volume is not mounted"]),
        ({"volume": "yes"}, False, []),
        ({"volume": "yes", "digest": "other"}, True, ["weights: other files are there than were applied last"]),
        ({"volume": "yes", "digest": HUB.digest, "content.a": "yes"}, True, ["a: content differs"]),
        ({"volume": "yes", "digest": HUB.digest, "size.a": "yes"}, True, ["a: content differs (it has another size)"]),
        ({"volume": "yes", "digest": HUB.digest, "missing.a": "yes"}, True, ["a: is missing"]),
        ({"volume": "yes", "digest": HUB.digest, "extra.b.bin": "yes"}, True, ["b.bin: is not part of the model"]),
        ({"volume": "yes", "digest": HUB.digest, "rights.": "yes"}, True, ["weights: owner or rights differ"]),
    ],
)
def test_facts_are_judged(facts: Mapping[str, str], exists: bool, sentences: list[str]) -> None:
    found = RESOURCE.observe(prior(HUB), facts)
    assert found.exists is exists
    assert [drift.sentence for drift in found.drift] == sentences


def test_no_facts_are_no_drift() -> None:
    assert RESOURCE.observe(prior(HUB), {}).error == "the weights could not be looked at"


@pytest.mark.parametrize(
    ("facts", "sentences"),
    [
        ({"free": "1000000000"}, []),
        ({"free": "1000000000", "status": "206"}, []),
        ({"free": "0"}, ["localhost: the weights need 0.0 GB of disk, 0.0 GB are free"]),
        ({"free": "1000000000", "status": "401"}, ["localhost: the server refuses the files of org/name"]),
        ({"free": "1000000000", "status": "404"}, ["localhost: the server does not have the files of org/name"]),
        ({"free": "1000000000", "status": "000"}, ["localhost: the server of org/name cannot be reached from there"]),
    ],
)
def test_preflight_is_judged(facts: Mapping[str, str], sentences: list[str]) -> None:
    problems = preflight_problems(spec(HUB), facts)
    assert [problem.sentence for problem in problems] == sentences
    assert all(problem.hint for problem in problems)


def test_preflight_waits_for_a_known_machine() -> None:
    assert RESOURCE.preflight(run_with({}), {**spec(HUB).tree(), "host": UNKNOWN}, None) == ()


def test_the_token_travels_as_a_configuration_of_curl() -> None:
    run = run_with({"HF_TOKEN": 'a"b\\c'})
    assert _curl_config(run, spec(HUB, token="env:HF_TOKEN")) == b'header = "Authorization: Bearer a\\"b\\\\c"\n'


def test_without_a_token_the_files_are_asked_for_without() -> None:
    assert _curl_config(run_with({}), spec(HUB, token="env:HF_TOKEN")) == b""
    assert _curl_config(run_with({"HF_TOKEN": "x"}), spec(HUB)) == b""


def test_a_token_that_would_end_its_line_is_refused() -> None:
    with pytest.raises(SecretError, match="env:HF_TOKEN holds characters") as caught:
        _curl_config(run_with({"HF_TOKEN": 'CANARY"\noutput = "/etc/passwd'}), spec(HUB, token="env:HF_TOKEN"))
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "goes"),
    [
        ("https://hub.example.com/a", True),
        ("http://127.0.0.1:1/a", True),
        ("http://localhost:1/a", True),
        ("http://[::1]:1/a", True),
        ("http://hub.example.com/a", False),
        ("http://127.0.0.1.example.com/a", False),
        ("http://localhost:x@example.com/a", False),
    ],
)
def test_the_token_never_travels_unencrypted(url: str, goes: bool) -> None:
    wanted = manifest("hub", "org/name", {"config.json": b"{}"}, lambda _path: url)
    assert bool(_curl_config(run_with({"HF_TOKEN": "x"}), spec(wanted, token="env:HF_TOKEN"))) is goes


def test_generated_files_travel_in_the_order_of_the_manifest() -> None:
    assert _stdin(run_with({}, FILES), spec(GENERATED)) == b"{}weightsx"


def test_another_generator_than_planned_is_told() -> None:
    with pytest.raises(LlmdeployError, match="writes tiny-random with other files than were planned"):
        _stdin(run_with({}, {"config.json": b"{ }"}), spec(GENERATED))


@pytest.mark.parametrize(("wanted", "transit"), [(HUB, "encrypted"), (FOLDER, "local"), (GENERATED, "local")])
def test_traits(wanted: Manifest, transit: str) -> None:
    traits = RESOURCE.traits(spec(wanted).tree())
    assert traits.in_transit == transit
    assert traits.pinned is False
    assert RESOURCE.traits({**spec(wanted).tree(), "pinned": True}).pinned is True


def test_pickles_are_said_loudly() -> None:
    assert "pickles" in RESOURCE.traits(spec(manifest("folder", "/x", {"pytorch_model.bin": b""})).tree()).notes[0]
