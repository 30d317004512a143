from __future__ import annotations

import pytest

from llmdeploy.resource import UNKNOWN, Tree
from llmdeploy.views.value import change, elapsed, full, leaves, short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (8443, "8443"),
        (0.5, "0.5"),
        ("", '""'),
        ("plain-word_1/2", "plain-word_1/2"),
        ("two words", '"two words"'),
        ('quo"te', '"quo\\"te"'),
        ("two\nlines", '"two\\nlines"'),
        (UNKNOWN, "(known after apply)"),
        ([1, "a b", UNKNOWN], '[1, "a b", (known after apply)]'),
        ({"a": 1, "b": {"c": []}}, "{a: 1, b: {c: []}}"),
    ],
)
def test_full(value: Tree, text: str) -> None:
    assert full(value) == text


def test_long_values_become_a_count_and_a_digest() -> None:
    assert short("line\n" * 94).startswith("94 lines (sha256 ")
    assert short("x" * 100) == f"{'x' * 30}... (100 characters, sha256 {short('x' * 100)[-9:-1]})"
    assert short([{"path": "a" * 50}, {"path": "b" * 50}]).startswith("2 items (sha256 ")
    assert short([{"path": "a" * 80}]).startswith("1 item (sha256 ")
    assert short({f"k{i}": "v" * 9 for i in range(9)}).startswith("9 fields (sha256 ")
    assert short([f"package-{i}" for i in range(20)]) == (
        "[package-0, package-1, package-2, package-3, package-4, ...] (20 items)"
    )


def test_different_long_values_look_different() -> None:
    assert short("a\n" * 50 + "b") != short("a\n" * 50 + "c")
    assert short([{"x": "y" * 99, "u": UNKNOWN}]) != short([{"x": "z" * 99, "u": UNKNOWN}])


def test_short_never_grows_much() -> None:
    for value in ("x" * 5000, ["y" * 5000] * 50, {"k": ["z" * 5000] * 50}, [["a"] * 500] * 3):
        assert len(short(value)) < 120


def test_a_change_of_a_command_line_names_the_option() -> None:
    before = [
        "python",
        "-m",
        "vllm",
        "--max-model-len",
        "4096",
        "--max-num-seqs",
        "8",
        "--port",
        "0",
        "--seed",
        "1",
        "--enable-x",
    ]
    after = ["python", "-m", "vllm", "--max-model-len", "8192", "--max-num-seqs", "8", "--port", "0", "--seed", "1", "--trust"]
    assert change(before, after) == "--max-model-len 4096 -> 8192; --enable-x -> --trust"
    assert change(before, before[:-1]) == "without --enable-x"
    assert change(before, [*before, "--more"]) == "with --more"


def test_a_change_of_small_values_shows_both() -> None:
    assert change(4096, 8192) == "4096 -> 8192"
    assert change([1], [1, 2]) == "[1] -> [1, 2]"
    assert change("a", UNKNOWN) == "a -> (known after apply)"
    assert change(None, "a") == "null -> a"


def test_leaves() -> None:
    tree = {"a": {"b": 1}, "long": {"x" * 40: "y" * 40, "deep": {"z" * 40: "z" * 40}}}
    assert [name for name, _ in leaves(tree)] == ["a", f"long.{'x' * 40}", f"long.deep.{'z' * 40}"]
    assert [name for name, _ in leaves(tree, depth=1)] == ["a", f"long.{'x' * 40}", "long.deep"]
    assert next(name for name, _ in leaves(tree, limit=0)) == "a.b"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.9, "59s"), (60, "1m00s"), (187, "3m07s"), (3600, "1h00m"), (3725, "1h02m")]
)
def test_elapsed(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text
