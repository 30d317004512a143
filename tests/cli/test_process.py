"""What only a fresh process can show: exit codes, pipes, locales, terminals, imports, signals."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.lab import COMMAND, environment, run, write_stack

pytestmark = pytest.mark.integration

HEAVY = ("boto3", "cryptography", "fabric", "jinja2", "llmdeploy.workflow", "paramiko", "pydantic", "rich", "yaml")


def modules_after(arguments: Sequence[str], folder: Path) -> set[str]:
    """Return the modules that a command has imported when it is done."""
    code = f"import sys; from llmdeploy.__main__ import main; code = main({list(arguments)!r})"
    code += "; print('MODULES', *sys.modules); sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.partition("MODULES ")[2].split())


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_imports_neither_rich_nor_pydantic_nor_yaml(tmp_path: Path, arguments: list[str]) -> None:
    assert sorted(modules_after(arguments, tmp_path).intersection(HEAVY)) == []


@pytest.mark.parametrize("verb", ["validate", "plan"])
def test_no_cloud_and_no_terminal_library_is_imported_for_a_pipe(tmp_path: Path, verb: str) -> None:
    write_stack(tmp_path)
    assert modules_after([verb], tmp_path).isdisjoint({"boto3", "paramiko", "fabric", "rich.console"})


WRONG = ["--nope", "bogus", "plan --format xml", "plan a b", "state", "apply --parallelism 0", "apply --yes --lock-timeout x"]


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_command_line_exits_1_because_2_means_changes(tmp_path: Path, words: str) -> None:
    done = run(tmp_path, *words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Usage: llmdeploy ")
    assert "Traceback" not in done.stderr


def test_exit_codes(tmp_path: Path) -> None:
    write_stack(tmp_path)
    assert run(tmp_path, "--help").returncode == 0
    assert run(tmp_path).returncode == 0
    assert run(tmp_path, "--version").stdout == run(tmp_path, "version").stdout
    assert run(tmp_path, "plan", "--detailed-exitcode").returncode == 2
    assert run(tmp_path, "plan", "nowhere").returncode == 1


# --- where the output goes --------------------------------------------------------------------------------------------------


def test_a_reader_that_went_away_is_no_error(tmp_path: Path) -> None:
    write_stack(tmp_path, names=[f"n{i}" for i in range(3000)])
    script = f"{sys.executable} -m llmdeploy plan | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (141, "")
    assert len(done.stdout.splitlines()) == 1


def test_an_apply_goes_on_when_its_reader_goes_away(tmp_path: Path) -> None:
    write_stack(tmp_path, names=["one", "two", "three"])
    script = f"{sys.executable} -m llmdeploy apply --yes | head -n 1 > first"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert run(tmp_path, "plan").stdout.startswith("No changes.")


@pytest.mark.parametrize("redirect", [">&-", "> /dev/full", "2>&-"])
def test_an_output_that_cannot_be_written(tmp_path: Path, redirect: str) -> None:
    write_stack(tmp_path)
    script = f"{sys.executable} -m llmdeploy plan {redirect}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    assert (done.returncode, "No space left" in done.stderr) == ((1, True) if "full" in redirect else (0, False))


@pytest.mark.parametrize(
    "environ",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
    ],
    ids=str,
)
def test_no_locale_breaks_the_output(tmp_path: Path, environ: dict[str, str]) -> None:
    write_stack(tmp_path, names=["one"], text="Zürich 東京 🙂", note="größer → kleiner")
    for arguments in (["plan"], ["apply", "--yes"], ["show"], ["state", "show", "thing.one"], ["plan", "nöwhere"], ["--help"]):
        done = run(tmp_path, *arguments, environ=environ)
        assert done.returncode == (1 if "nöwhere" in arguments else 0), done.stderr
        assert "Traceback" not in done.stderr
    document = json.loads(run(tmp_path, "show", "--format", "json", environ=environ).stdout)
    assert document["values"]["root_module"]["resources"][0]["values"]["text"] == "Zürich 東京 🙂"


def test_what_llmdeploy_writes_itself_is_ascii(tmp_path: Path) -> None:
    write_stack(tmp_path, keys=("a",))
    for arguments in (["plan"], ["apply", "--yes"], ["show"], ["status"], ["keys", "list"], ["destroy", "--yes"], ["--help"]):
        assert run(tmp_path, *arguments).stdout.isascii()


def test_a_narrow_screen_can_be_read(tmp_path: Path) -> None:
    write_stack(tmp_path, keys=("a",), note="some long words that do not fit into one line of a narrow terminal")
    environ = {"COLUMNS": "40"}
    for arguments in (["plan"], ["apply", "--yes"], ["status"], ["keys", "list"], ["show"]):
        for text in run(tmp_path, *arguments, environ=environ).stdout.splitlines():
            assert len(text) <= 40 or len(max(text.split(), key=len)) > 20, text


# --- terminals --------------------------------------------------------------------------------------------------------------


def on_a_terminal(
    folder: Path, arguments: Sequence[str], environ: dict[str, str], answer: Callable[[str], str | None] = lambda _seen: None
) -> tuple[int, str]:
    """Run a command on a pseudo-terminal; `answer` sees all output so far and may type something. Return exit code and output."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(COMMAND[0], [*COMMAND, *arguments], environment(environ))  # noqa: S606 - no shell is the point
    seen = b""
    while True:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # Linux tells the end of a terminal so
                break
            seen += piece
        typed = answer(seen.decode(errors="replace"))
        if typed:
            os.write(terminal, typed.encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode(errors="replace")


def once(question: str, text: str) -> Callable[[str], str | None]:
    """Type `text` the first time that `question` is on the screen."""
    asked: list[str] = []

    def answer(seen: str) -> str | None:
        if question in seen and not asked:
            asked.append(question)
            return text
        return None

    return answer


@pytest.mark.parametrize(
    ("environ", "colour", "style"),
    [({"TERM": "xterm"}, True, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False)],
    ids=str,
)
def test_colours_on_a_terminal(tmp_path: Path, environ: dict[str, str], colour: bool, style: bool) -> None:
    write_stack(tmp_path)
    code, seen = on_a_terminal(tmp_path, ["plan"], {**environ, "COLUMNS": "80"})
    assert code == 0
    assert bool(re.search(r"\x1b\[3\d", seen)) is colour
    assert ("\x1b[" in seen) is style
    assert "2 to create" in seen


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize(("typed", "code"), [("yes\n", 0), ("y\n", 1), ("\x04", 1), ("\n", 1)])
def test_only_yes_is_a_yes(tmp_path: Path, term: str, typed: str, code: int) -> None:
    write_stack(tmp_path)
    answer = once('Only "yes"', typed)
    found, seen = on_a_terminal(tmp_path, ["apply"], {"TERM": term, "COLUMNS": "80"}, answer)
    assert found == code, seen
    assert (tmp_path / "world").exists() is (code == 0)
    assert "Traceback" not in seen
    assert ("Done: 2 created" in seen) is (code == 0)


def pressing_ctrl_c(question: str) -> Callable[[str], str | None]:
    """Press it at the question, and again while nothing happens: Python misses a signal right before it waits for a key."""
    before: list[str] = []

    def answer(seen: str) -> str | None:
        press = question in seen and before in ([], [seen])
        if question in seen:
            before[:] = [seen]
        return "\x03" if press else None

    return answer


def test_ctrl_c_at_the_question(tmp_path: Path) -> None:
    write_stack(tmp_path)
    code, seen = on_a_terminal(tmp_path, ["apply"], {"TERM": "xterm"}, pressing_ctrl_c('Only "yes"'))
    assert code == 130
    assert "Interrupted." in seen
    assert "Traceback" not in seen
    assert run(tmp_path, "apply", "--yes").returncode == 0


def test_a_live_display_names_what_runs(tmp_path: Path) -> None:
    write_stack(tmp_path, names=["one"], gate="gate")

    def open_gate(seen: str) -> str | None:
        if "writing one" in seen:
            (tmp_path / "gate").touch()
        return None

    code, seen = on_a_terminal(tmp_path, ["apply", "--yes"], {"TERM": "xterm", "COLUMNS": "80"}, open_gate)
    assert code == 0
    assert "Done: 1 created" in seen


def test_init_asks_on_a_terminal(tmp_path: Path) -> None:
    code, seen = on_a_terminal(tmp_path, ["init"], {"TERM": "xterm"}, once("Name of the stack", "chat\n\n\n\n\n"))
    assert code == 0, seen
    assert "name: chat\n" in (tmp_path / "stack.yaml").read_text()


# --- signals ----------------------------------------------------------------------------------------------------------------


Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Start commands in the background; kill those that are left."""
    with ExitStack() as left:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=tmp_path,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            left.enter_context(process)
            left.callback(process.kill)
            return process

        yield start


def apply_at_gate(spawn: Spawn) -> subprocess.Popen[str]:
    """Start an apply whose first thing waits at its gate; return when it does."""
    process = spawn("apply", "--yes")
    read_until(process, "writing one")
    return process


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read standard output until `text` came."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"{text!r} never came: {process.communicate()[1]}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_lets_what_runs_end(tmp_path: Path, spawn: Spawn, number: signal.Signals) -> None:
    write_stack(tmp_path, gate="gate")
    process = apply_at_gate(spawn)
    process.send_signal(number)
    read_until(process, "Stopping after what runs now.")
    (tmp_path / "gate").touch()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "thing.one: Created" in out
    assert "1 of 2 changes are done, 1 resource exists now" in err
    assert "not started: thing.two" in err
    assert run(tmp_path, "state", "list").stdout == "thing.one\n"
    assert run(tmp_path, "apply", "--yes").returncode == 0


def test_the_second_signal_stops_at_once_and_says_what_is_in_doubt(tmp_path: Path, spawn: Spawn) -> None:
    write_stack(tmp_path, gate="gate")
    process = apply_at_gate(spawn)
    process.send_signal(signal.SIGINT)
    read_until(process, "Stopping after what runs now.")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Stopping at once." in out
    assert "in doubt: thing.one" in err
    assert "its creation did not end" in run(tmp_path, "show").stdout
    (tmp_path / "gate").touch()
    assert "goes on where it was interrupted" in run(tmp_path, "plan").stdout
    assert run(tmp_path, "apply", "--yes").returncode == 0
    assert run(tmp_path, "plan").stdout.startswith("No changes.")


def test_a_third_signal_ends_what_will_not_stop(tmp_path: Path, spawn: Spawn) -> None:
    write_stack(tmp_path, gate="gate", stubborn=True)
    process = apply_at_gate(spawn)
    process.send_signal(signal.SIGINT)
    read_until(process, "Stopping after what runs now.")
    process.send_signal(signal.SIGINT)
    read_until(process, "Stopping at once.")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    (tmp_path / "gate").touch()
    assert run(tmp_path, "apply", "--yes").returncode == 0


def test_a_killed_apply_goes_on(tmp_path: Path, spawn: Spawn) -> None:
    write_stack(tmp_path, gate="gate")
    process = apply_at_gate(spawn)
    process.kill()
    process.communicate()
    (tmp_path / "gate").touch()
    assert run(tmp_path, "apply", "--yes").returncode == 0
    assert run(tmp_path, "plan").stdout.startswith("No changes.")


def test_an_apply_that_runs_is_named_by_its_lock(tmp_path: Path, spawn: Spawn) -> None:
    write_stack(tmp_path, gate="gate")
    process = apply_at_gate(spawn)
    done = run(tmp_path, "apply", "--yes")
    assert done.returncode == 1
    assert re.search(rf"this stack is locked: apply by \S+@\S+ \(process {process.pid}\) since ", done.stderr)
    (tmp_path / "gate").touch()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_following_logs_ends_with_ctrl_c(tmp_path: Path, spawn: Spawn) -> None:
    write_stack(tmp_path, names=["one"])
    assert run(tmp_path, "apply", "--yes").returncode == 0
    process = spawn("logs", "-f")
    read_until(process, "more")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


# --- completion -------------------------------------------------------------------------------------------------------------


def test_completion_of_a_verb_imports_no_verb(tmp_path: Path) -> None:
    environ = {
        "_LLMDEPLOY_COMPLETE": "complete_bash",
        "COMP_WORDS": "llmdeploy st",
        "COMP_CWORD": "1",
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    done = run(tmp_path, environ=environ)
    assert done.stdout.split() == ["state", "status"]
    imported = {text.rpartition("|")[2].strip() for text in done.stderr.splitlines()}
    assert "llmdeploy.cli.root" in imported
    assert imported.isdisjoint({"llmdeploy.workflow", "rich", "yaml", "llmdeploy.cli.state", "llmdeploy.cli.status"})


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("llmdeploy plan --de", {"--detailed-exitcode", "--destroy"}),
        ("llmdeploy keys ro", {"rotate"}),
        ("llmdeploy state ", {"list", "show", "pull", "rm", "unlock"}),
        ("llmdeploy plan --format ", {"human", "json", "markdown", "html"}),
    ],
)
def test_completion_inside_a_verb(tmp_path: Path, words: str, found: set[str]) -> None:
    environ = {"_LLMDEPLOY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    assert set(run(tmp_path, environ=environ).stdout.split()) == found


def test_completion_of_zsh_and_fish(tmp_path: Path) -> None:
    zsh = run(tmp_path, environ={"_LLMDEPLOY_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "llmdeploy des"}).stdout
    assert '"destroy":"Remove everything that apply made."' in zsh
    environ = {
        "_LLMDEPLOY_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_ARGS": "llmdeploy des",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    assert run(tmp_path, environ=environ).stdout.split("\t")[0] == "destroy"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_and_installed(tmp_path: Path, shell: str) -> None:
    environ = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    assert "_LLMDEPLOY_COMPLETE" in run(tmp_path, "--show-completion", shell, environ=environ).stdout
    assert "completion installed" in run(tmp_path, "--install-completion", shell, environ=environ).stdout
    assert any("_LLMDEPLOY_COMPLETE" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_the_bash_script_completes_in_a_real_bash(tmp_path: Path) -> None:
    environ = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = run(tmp_path, "--show-completion", "bash", environ=environ).stdout
    wrapper = tmp_path / "llmdeploy"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m llmdeploy "$@"\n')
    wrapper.chmod(0o755)
    body = f'{script}\nCOMP_WORDS=(llmdeploy val); COMP_CWORD=1; _llmdeploy_completion llmdeploy; echo "${{COMPREPLY[@]}}"'
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", body], env=environment({"PATH": path}), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "validate\n", done.stderr
