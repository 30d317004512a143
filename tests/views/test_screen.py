from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy.views.screen import BLANK, Screen, line, wrap


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_lines_are_wrapped_at_blanks_with_a_hanging_indent() -> None:
    one = line(("Warning: ", "bold"), "the key lies beside the stack file", hang=9)
    assert [piece.plain.rstrip() for piece in wrap(one, 24)] == [
        "Warning: the key lies",
        "         beside the",
        "         stack file",
    ]
    assert next(iter(wrap(one, 24))).parts[0] == ("Warning: ", "bold")


def test_a_long_word_is_left_whole() -> None:
    path = "/a/very/long/path/that/somebody/wants/to/copy"
    assert [piece.plain.strip() for piece in wrap(line("see", " ", path), 30)] == ["see", path]


@given(st.text(alphabet="ab ", max_size=200), st.integers(1, 60), st.integers(0, 30))
def test_wrapping_loses_no_word_and_keeps_the_order(text: str, width: int, hang: int) -> None:
    pieces = list(wrap(line(text, hang=hang), width))
    assert " ".join(piece.plain for piece in pieces).split() == text.split()
    longest = max((len(word) for word in text.split()), default=0)
    assert all(len(piece.plain.rstrip()) <= max(width, 20, longest + min(hang, max(width, 20) // 2)) for piece in pieces)


def test_without_a_width_lines_stay_whole() -> None:
    one = line("word " * 100)
    assert list(wrap(one, None)) == [one]


def test_control_characters_cannot_reach_the_terminal() -> None:
    assert line("a\x1b[31mb\x07\x9bc").plain == "a\\x1b[31mb\\x07\\x9bc"


WIDTHS: list[tuple[dict[str, str], int | None]] = [
    ({}, None),
    ({"COLUMNS": "40"}, 40),
    ({"COLUMNS": "999"}, 120),
    ({"COLUMNS": "x"}, None),
    ({"COLUMNS": "0"}, None),
]


@pytest.mark.parametrize(("environ", "width"), WIDTHS)
def test_width(environ: dict[str, str], width: int | None) -> None:
    assert Screen(io.StringIO(), environ).width == width


def test_a_pipe_gets_plain_text() -> None:
    stream = io.StringIO()
    Screen(stream, {"TERM": "xterm"}).write([line(("red", "red"), " text  "), BLANK, line("x")])
    assert stream.getvalue() == "red text\n\nx\n"


def test_nothing_is_written_for_no_lines() -> None:
    stream = io.StringIO()
    Screen(stream, {}).write([])
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"TERM": "xterm"}, "\x1b[31mred\x1b[0m and \x1b[1mbold\x1b[0m\n"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "red and \x1b[1mbold\x1b[0m\n"),
        ({"TERM": "dumb"}, "red and bold\n"),
        ({}, "red and bold\n"),
    ],
)
def test_a_terminal_gets_what_it_understands(environ: dict[str, str], text: str) -> None:
    stream = Terminal()
    Screen(stream, {**environ, "COLUMNS": "80"}).write([line(("red", "red"), " and ", ("bold", "bold"))])
    assert stream.getvalue() == text


def test_a_closed_stream_is_no_error() -> None:
    out = Screen(None, {})
    out.write([line("x")])
    out.text("y")
    out.flush()
    assert not out.interactive
