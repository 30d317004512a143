"""The evidence file: whatever is changed in it is found, and no secret gets into it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmdeploy import chain
from llmdeploy.chain import REDACTED, START, Chain, Redactor, canonical, digest, verified, verify, write
from llmdeploy.errors import LlmdeployError

KEY = "llmd_live_aB3dE6gH_" + "x" * 43 + "1a2B3c"


def observation(fact: str, value: Any = True, output: str = "seen\n") -> dict[str, Any]:
    return {
        "address": "disk.a",
        "fact": fact,
        "value": value,
        "host": "localhost",
        "command": "look",
        "output": output,
        "reason": "",
    }


def made(prev: str = START) -> Chain:
    records = Chain(prev)
    records.add(
        "audit", {"format": chain.FORMAT, "stack": "größer", "serial": 3, "profiles": ["gdpr"], "started_at": "2026-01-02"}
    )
    first = records.add("observation", observation("at_rest", "encrypted"))
    records.add("observation", observation("private", False, "\x1b[31m 0644 \udc80"))
    records.add("result", {"control": "ENC-01", "address": "disk.a", "result": "pass", "evidence": [first]})
    records.add("result", {"control": "STATE-01", "address": "disk.a", "result": "not_checked", "evidence": []})
    records.end({"finished_at": "2026-01-02"})
    return records


CONTENT = made().content
HEAD = made().head
LINES = CONTENT.splitlines(keepends=True)


def rechained(records: list[dict[str, Any]], prev: str = START) -> bytes:
    """Return records with digests made anew, as a forger would."""
    lines: list[bytes] = []
    for number, record in enumerate(records, 1):
        bare = {name: value for name, value in record.items() if name != "digest"} | {"n": number, "prev": prev}
        prev = digest(canonical(bare))
        lines.append(canonical({**bare, "digest": prev}) + b"\n")
    return b"".join(lines)


# --- what was written is intact ---------------------------------------------------------------------------------------------


def test_a_file_that_was_not_touched_is_intact() -> None:
    found = verified(CONTENT, HEAD)
    assert (found.problems, found.intact, found.head) == ((), True, HEAD)
    assert [record["kind"] for record in found.records] == ["audit", "observation", "observation", "result", "result", "end"]
    assert found.begin["prev"] == START
    assert found.records[-1]["results"] == {"pass": 1, "not_checked": 1}
    assert found.records[1]["output_sha256"] == digest(b"seen\n")


def test_every_line_is_canonical_json_in_ascii() -> None:
    assert CONTENT.isascii()
    for line in LINES:
        assert canonical(json.loads(line)) + b"\n" == line


def test_the_chain_goes_on_from_the_audit_before() -> None:
    assert verified(made(HEAD).content).begin["prev"] == HEAD
    assert made(HEAD).head != HEAD


def test_it_is_written_whole_durably_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "evidence" / "one.jsonl"
    write(path, made())
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["one.jsonl"]
    assert verify(path, HEAD).intact


def test_what_cannot_be_written_or_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LlmdeployError, match="cannot write the evidence"):
        write(tmp_path / "file" / "one.jsonl", made())
    with pytest.raises(LlmdeployError, match="cannot read"):
        verify(tmp_path / "missing")


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, float("inf")])
def test_what_json_cannot_hold_is_refused_when_it_is_written(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        Chain().add("observation", observation("private", value))


# --- what was changed is found ----------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(place=st.integers(0, len(CONTENT) - 1), byte=st.integers(1, 255))
def test_a_changed_byte_is_found(place: int, byte: int) -> None:
    changed = bytearray(CONTENT)
    changed[place] ^= byte
    found = verified(bytes(changed))
    assert not found.intact
    line = CONTENT[:place].count(b"\n") + 1
    assert line in {problem.line for problem in found.problems} or line + 1 in {problem.line for problem in found.problems}


def test_every_single_byte_counts() -> None:
    for place in range(len(CONTENT)):
        changed = bytearray(CONTENT)
        changed[place] ^= 1
        assert not verified(bytes(changed)).intact, f"byte {place}"


@given(cut=st.integers(0, len(CONTENT) - 1))
def test_a_file_that_was_cut_off_is_found(cut: int) -> None:
    assert not verified(CONTENT[:cut]).intact


@given(place=st.integers(0, len(CONTENT)), more=st.binary(min_size=1, max_size=30))
def test_bytes_that_were_added_are_found(place: int, more: bytes) -> None:
    changed = CONTENT[:place] + more + CONTENT[place:]
    assert changed == CONTENT or not verified(changed).intact


@pytest.mark.parametrize("index", range(len(LINES)))
def test_a_line_that_was_removed_or_doubled_is_found(index: int) -> None:
    assert not verified(b"".join(LINES[:index] + LINES[index + 1 :])).intact
    assert not verified(b"".join([*LINES[:index], LINES[index], *LINES[index:]])).intact


@given(order=st.permutations(range(len(LINES))))
def test_lines_in_another_order_are_found(order: list[int]) -> None:
    assert verified(b"".join(LINES[index] for index in order)).intact == (order == sorted(order))


def test_problems_name_the_lines() -> None:
    changed = list(LINES)
    changed[2] = changed[2].replace(b'"value":false', b'"value":true')
    assert [problem.line for problem in verified(b"".join(changed)).problems] == [3]
    (first, *_) = verified(b"".join(LINES[:1] + LINES[2:])).problems
    assert (first.line, "removed" in first.sentence) == (2, True)


Records = list[dict[str, Any]]
FORGERIES: list[tuple[Callable[[Records], Records], str]] = [
    (lambda records: records[:-1], "its end is missing"),
    (lambda records: records[1:], "does not begin with the record of an audit"),
    (lambda records: records[:2] + records[3:], "it counts 6 records, and there are 5"),
    (lambda records: [*records[:1], records[3], records[1], records[2], *records[4:]], "not in their order"),
    (lambda records: [*records[:4], {**records[4], "result": "pass"}, records[5]], "it counts other results"),
    (lambda records: [records[0], {**records[1], "output": "other"}, *records[2:]], "its output does not have the digest"),
    (lambda records: [*records[:3], {**records[3], "evidence": ["0" * 64]}, *records[4:]], "observations that are not there"),
    (lambda records: [{**records[0], "format": "9" * 5000}, *records[1:]], "it has the format 99999999999999999999, which"),
    (lambda records: [{**records[0], "format": 99}, *records[1:]], "which this version of llmdeploy does not know"),
    (lambda records: [records[0], {**records[1], "kind": "more"}, *records[2:]], "not in their order"),
    (lambda records: [records[0], {**records[1], "kind": ["a"]}, *records[2:]], "not in their order"),
]  # fmt: skip


@pytest.mark.parametrize(("forge", "sentence"), FORGERIES)
def test_a_forgery_is_found_where_it_contradicts_itself(forge: Callable[[Records], Records], sentence: str) -> None:
    found = verified(rechained(forge([json.loads(line) for line in LINES])))
    assert sentence in " ".join(problem.sentence for problem in found.problems)


def test_a_whole_file_that_was_made_anew_is_found_by_its_head_alone() -> None:
    records = [json.loads(line) for line in LINES]
    records[3]["result"], records[-1]["results"] = "fail", {"fail": 1, "not_checked": 1}
    # The digests of observations did not change, so that the forged file is whole in itself.
    forged = rechained(records)
    assert verified(forged).intact
    (problem,) = verified(forged, HEAD).problems
    assert HEAD in problem.sentence


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{}\n", b"[]\n", b"null\n", b"\xff\n", b'{"a":' * 5000 + b"\n", b"[" * 100_000 + b"\n", b'{"kind":"end"}\n'],
)
def test_what_is_no_evidence_at_all_is_told(content: bytes) -> None:
    found = verified(content)
    assert not found.intact
    assert all(problem.line >= 1 for problem in found.problems)


# --- what must not be written down --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [KEY, f"--key={KEY}", f"x{KEY}y", KEY[:40], KEY.replace("live", "test")])
def test_api_keys_are_taken_out_also_in_parts(text: str) -> None:
    cleaned = Redactor().text(f"before {text} after")
    assert REDACTED in cleaned
    assert "aB3dE6gH_xxxx" not in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith("after")


def test_the_names_of_keys_stay() -> None:
    assert Redactor().text("llmd_live_ is a prefix, aB3dE6gH an id") == "llmd_live_ is a prefix, aB3dE6gH an id"


PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQC7VJTU\n-----END PRIVATE KEY-----"
SECRETS = (
    b"correct horse battery",
    PEM.encode(),
    bytes(range(200, 232)),
    b"abc",
    "pässwörd".encode(),
    'quoted "?ÿ>~ and more'.encode(),
)


@pytest.mark.parametrize(
    "text",
    [
        "correct horse battery",
        "the volume opens with correct horse battery.",
        PEM,
        "AASCBKcwggSjAgEAAoIBAQC7VJTU",
        bytes(range(200, 232)).hex(),
        base64.b64encode(bytes(range(200, 232))).decode(),
        base64.b64encode(b"correct horse battery").decode(),
        base64.urlsafe_b64encode(b'quoted "?\xff>~ and more'.decode("latin-1").encode()).decode().rstrip("="),
        bytes(range(200, 232)).hex().upper(),
        '"quoted \\"?\\u00ff>~ and more"',
        "quoted%20%22%3F%C3%BF%3E~%20and%20more",
        "pässwörd",
    ],
)
def test_named_secrets_are_taken_out_in_each_form(text: str) -> None:
    clean = Redactor(SECRETS)
    tree = clean.tree({"output": [text, {"inner": f"-{text}-"}], text: 1, "n": 3, "none": None})
    found = json.dumps(tree, ensure_ascii=False)
    assert text not in found
    assert found.count(REDACTED) >= 3
    assert (tree["n"], tree["none"]) == (3, None)


def test_a_secret_with_the_end_of_its_file_in_base64_is_taken_out() -> None:
    encoded = base64.b64encode(b"a secret of the disk\n").decode()
    assert encoded[:20] not in Redactor([b"a secret of the disk"]).text(encoded)


def test_a_secret_that_is_too_short_to_be_told_from_other_text_is_left() -> None:
    assert Redactor(SECRETS).text("abcdef -----END PRIVATE KEY-----") == "abcdef -----END PRIVATE KEY-----"


def test_the_longest_secret_goes_first() -> None:
    assert Redactor([b"secret", b"secret-and-more"]).text("secret-and-more") == REDACTED


@given(st.binary(min_size=6, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_no_secret_survives(secret: bytes, before: str, after: str) -> None:
    clean = Redactor([secret])
    for form in (secret.hex(), base64.b64encode(secret).decode().rstrip("=")):
        assert form not in clean.text(f"{before}{form}{after}").replace(REDACTED, "")


def test_nothing_is_left_behind_by_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(LlmdeployError, match="No space left"):
        write(tmp_path / "one.jsonl", made())
    assert list(tmp_path.iterdir()) == []
