"""The word that people expect at the end stands nowhere but where it says that we do not say it."""

from __future__ import annotations

import re

from tests.support import ROOT

WORD = re.compile(r"\b(?:non-?)?compliant\b", re.IGNORECASE)
DENIED = "does not make you compliant"
SHIPPED = ("llmdeploy", "providers", "templates", "docs", "examples", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
TEXTS = frozenset({".py", ".md", ".yaml", ".yml", ".json", ".txt", ".j2", ".jinja", ".sh", ".lua", ".svg", ".css"})


def test_the_word_only_stands_where_it_is_denied() -> None:
    roots = [ROOT / name for name in SHIPPED]
    files = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*")) if path.suffix in TEXTS]
    assert len(files) > 300
    said = {path: [text[found.start() - 22 : found.end()] for found in WORD.finditer(text)]
            for path in files for text in [" ".join(path.read_text(encoding="utf-8").split())]}  # fmt: skip
    assert {path: words for path, words in said.items() if any(not one.endswith(DENIED) for one in words)} == {}
    assert sum(len(words) for words in said.values()) >= 3
