"""Every bad stack file through the command line: exit 1, one clear error with its line, no traceback, nothing touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdeploy.__main__ import main
from tests.stack.bad_files import BAD_FILES, Bad

VERBS = (("validate",), ("plan",), ("apply", "--yes"))


def write(folder: Path, text: str | bytes) -> None:
    (folder / "stack.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
def test_each_is_refused_by_every_verb(
    bad: Bad, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, bad.text)
    for name, value in bad.environ.items():
        monkeypatch.setenv(name, value)
    variables = [word for name, value in bad.variables.items() for word in ("--var", f"{name}={value}")]
    for verb in VERBS:
        assert main([*verb, str(tmp_path), *variables]) == 1
        told = capsys.readouterr().err
        assert "Traceback" not in told
        assert "bug" not in told.split("Error", 1)[0]
        assert bad.line is None or f"stack.yaml:{bad.line}:" in told.replace("\n", "").replace(" ", "")
        assert [path.name for path in tmp_path.iterdir()] == ["stack.yaml"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_no_input_makes_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | bytes) -> None:
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    write(tmp_path, content)
    assert main(["validate", str(tmp_path)]) == 1
    assert "Traceback" not in capsys.readouterr().err
