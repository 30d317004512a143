"""Reads an HTML page strictly, for tests: what is open must be closed, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta", "br"})
"""Elements of these pages that have no end."""


@dataclass
class Element:
    """One element: its name, its attributes, and the text in it and below."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """A page that was read. Raises AssertionError where elements cross each other or stay open."""

    source: str
    elements: list[Element] = field(default_factory=list[Element])
    comments: list[str] = field(default_factory=list[str])
    _open: list[Element] = field(default_factory=list[Element])

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.source)
        self.close()
        assert not self._open, f"these stay open: {[one.tag for one in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        assert self._open.pop().tag == tag

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"</{tag}> while <{self._open[-1].tag}> is open"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def all(self, tag: str, style: str = "") -> list[Element]:
        """Return the elements of a name that have the CSS class, in their order."""
        return [
            one for one in self.elements if one.tag == tag and (not style or style in one.attributes.get("class", "").split())
        ]

    def texts(self, tag: str, style: str = "") -> list[str]:
        """Return the texts of such elements, blanks folded."""
        return [" ".join(one.text.split()) for one in self.all(tag, style)]
