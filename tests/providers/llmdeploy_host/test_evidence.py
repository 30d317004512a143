"""From what a script prints to observations: nothing that was not told clearly ever has a value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.sdk import Context, Identity, Interrupted, Run
from llmdeploy_host._connection import Connection
from llmdeploy_host._evidence import (
    OUTPUT_LIMIT,
    Question,
    Read,
    answers,
    ask,
    bounded,
    count,
    custody_of,
    flag,
    from_json,
    private_file,
    private_question,
    script_of,
    word,
    words,
)
from tests.providers.llmdeploy_host.evidence_lab import answer, check_shell
from tests.support import require_root, require_tool

SWAP = Question("cat /proc/swaps", "true", {"swap": word("none", "plain")})
BOTH = Question("look", "true", {"intact": flag, "formats": words})


def section(text: str, status: int = 0, number: int = 0) -> str:
    return f"\n::question {number}\n{text}\n\n::status {status}\n"


def test_a_fact_that_is_told_has_its_value_the_command_and_what_was_printed() -> None:
    (one,) = answers((SWAP,), "10.0.0.1", section("Filename Type\nswap\tnone"))
    assert (one.fact, one.value, one.reason) == ("swap", "none", "")
    assert (one.host, one.command, one.output) == ("10.0.0.1", "cat /proc/swaps", "Filename Type\nswap\tnone")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "ended before it told anything"),
        ("\n::question 0\nswap\tnone\n", "ended before it told anything"),
        (section("swap\tnone", status=2), "ended with status 2"),
        (section("nothing"), "did not tell it"),
        (section("swap\tnone\nswap\tplain"), "more than once"),
        (section("swap\tnone\nswap?\tnobody knows"), "nobody knows"),
        (section("swap?\t"), "could not tell"),
        (section("swap\tperhaps"), "means nothing: perhaps"),
        (section("swap\t"), "means nothing"),
        (section("swap none"), "did not tell it"),
        (section("swap\tnone", number=1), "ended before it told anything"),
    ],
)
def test_what_is_not_told_clearly_has_a_reason_and_no_value(output: str, reason: str) -> None:
    (one,) = answers((SWAP,), "localhost", output)
    assert reason in one.reason
    assert one.value is None


def test_each_question_has_its_own_answer() -> None:
    output = section("intact\tyes\nformats\tgguf gguf pickle") + section("swap\tplain", number=1)
    found = {one.fact: one.value for one in answers((BOTH, SWAP), "localhost", output)}
    assert found == {"intact": True, "formats": ("gguf", "pickle"), "swap": "plain"}


@given(st.text(max_size=300))
def test_no_text_makes_a_value_without_the_fact_in_it(text: str) -> None:
    for one in answers((BOTH, SWAP), "localhost", section(text)):
        assert one.reason or f"{one.fact}\t" in text


READERS = [(flag, "true"), (count, "-1"), (count, "\u0663"), (word("a"), "b"), (from_json, "{")]


@pytest.mark.parametrize(("read", "text"), READERS)
def test_a_reader_takes_nothing_else(read: Read, text: str) -> None:
    (one,) = answers((Question("", "", {"fact": read}),), "localhost", section(f"fact\t{text}"))
    assert (one.value, one.reason) == (None, f"the probe told something that means nothing: {text}")


def test_output_is_bounded_and_clean() -> None:
    assert bounded("a\x1b[31mb\n\tc\x00") == "a?[31mb\n\tc?"
    told = bounded("x" * OUTPUT_LIMIT + "y" * OUTPUT_LIMIT)
    assert told.startswith("xxx")
    assert told.endswith("yyy")
    assert f"{OUTPUT_LIMIT} characters left out" in told


# --- on this machine --------------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_a_machine_that_cannot_be_asked_gives_reasons_only(tmp_path: Path) -> None:
    run = Run(Identity("lab", "1" * 32), tmp_path, {})
    far = Connection(transport="ssh", address="10.0.0.11", host_key="ssh-ed25519 AAAA")
    found = ask(Context(run, "host.a"), far, (BOTH, SWAP))
    assert [one.fact for one in found] == ["intact", "formats", "swap"]
    assert all(one.reason.startswith("10.0.0.11 could not be asked") and one.value is None for one in found)


@pytest.mark.integration
def test_a_fragment_cannot_harm_the_next_one(tmp_path: Path) -> None:
    require_root()
    found = answer(
        tmp_path, Question("", "echo broken >&2; exit 3", {"intact": flag}), Question("", "printf 'swap\\tnone\\n'", SWAP.facts)
    )
    assert (found["intact"].reason, found["intact"].output) == ("the probe ended with status 3", "broken")
    assert found["swap"].value == "none"


@pytest.mark.integration
def test_a_run_that_the_user_stops_is_interrupted_and_not_reported(tmp_path: Path) -> None:
    require_root()
    run = Run(Identity("lab", "1" * 32), tmp_path, {})
    run.abort.set()
    with pytest.raises(Interrupted):
        ask(Context(run, "host.local"), Connection(), (Question("", "sleep 60", SWAP.facts),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file that only root may read."""
    require_root()
    require_tool("setpriv")
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    folder = tmp_path / "stack"
    folder.mkdir(mode=0o755)
    (folder / "a file").write_text("secret")
    (folder / "a file").chmod(0o600)
    return folder


def _private(folder: Path, owners: tuple[str, ...] = ()) -> bool | str:
    one = answer(folder, private_question((str(folder),), owners))["private"]
    return one.reason or bool(one.value)


@pytest.mark.integration
def test_a_file_that_others_can_read_is_found_by_reading_it_as_another_user(folder: Path) -> None:
    assert _private(folder) is True
    (folder / "a file").chmod(0o604)
    assert _private(folder) is False
    folder.chmod(0o700)
    assert _private(folder) is True


@pytest.mark.integration
def test_a_file_that_another_group_can_read_is_found(folder: Path) -> None:
    os.chown(folder / "a file", 0, 2)
    assert _private(folder) is True
    (folder / "a file").chmod(0o640)
    assert _private(folder) is False


@pytest.mark.integration
def test_a_file_that_another_user_owns_is_found_unless_it_may(folder: Path) -> None:
    os.chown(folder / "a file", 2, 2)
    assert _private(folder) is False
    assert _private(folder, ("bin",)) is True


@pytest.mark.integration
def test_a_folder_or_user_that_is_not_there_tells_nothing(folder: Path) -> None:
    assert _private(folder / "gone") == f"{folder}/gone is not there, or does not answer"
    assert _private(folder, ("no-such-user",)) == "there is no user no-such-user"


def test_the_scripts_pass_shellcheck() -> None:
    require_tool("shellcheck")
    check_shell(script_of((private_question(("/a b", "/c"), ("bin", "daemon")), private_question(("/a",), ()))))


# --- the operator's files ----------------------------------------------------------------------------------------------------


def test_a_secret_file_is_private_when_only_its_owner_has_rights(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    assert "is not there" in private_file(path).reason
    path.write_text("secret")
    for mode, private in ((0o600, True), (0o400, True), (0o640, False), (0o604, False)):
        path.chmod(mode)
        one = private_file(path)
        assert (one.value, one.reason) == (private, "")
        assert one.output == f"{mode:o} {os.getuid()} {path}"


def test_custody_is_where_the_secret_really_lies(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    assert custody_of(path, "env:KEY").value == "reference"
    assert "nothing else names the secret" in custody_of(path, None).reason
    path.touch()
    assert custody_of(path, "env:KEY").value == "operator-file"
