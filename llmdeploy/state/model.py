"""The state as a value: entries by address, with lineage and serial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import StateCorrupt
from ..resource import Tree

FORMAT = 1
"""Version of the file format. It grows when an older llmdeploy could misread a newer file."""

Status = Literal["ok", "tainted", "creating", "updating"]


class Deposed(BaseModel):
    """An object that was replaced and is not gone yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    generation: int
    spec: dict[str, Tree]
    outputs: dict[str, Tree]
    dependencies: tuple[str, ...] = ()


class Entry(BaseModel):
    """One object that exists, or whose creation began.

    provider_config is the non-secret configuration that its provider had, so that it can be removed when the stack file no longer
    names that provider. spec holds resolved values. generation counts the objects that this address has had. steps are those that
    an unfinished creation has done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    type: str
    provider: str
    provider_config: dict[str, Tree] = Field(default_factory=dict[str, Any])
    version: int = 1
    id: str = ""
    generation: int = 1
    status: Status = "ok"
    spec: dict[str, Tree] = Field(default_factory=dict[str, Any])
    outputs: dict[str, Tree] = Field(default_factory=dict[str, Any])
    dependencies: tuple[str, ...] = ()
    prevent_destroy: bool = False
    steps: tuple[str, ...] = ()
    deposed: tuple[Deposed, ...] = ()


class Evidence(BaseModel):
    """The newest audit of what exists.

    head: of its evidence file; whoever changes that file cannot keep it. at: when it ended (UTC, ISO 8601). file: the evidence
    file, from the folder of the state. results: how many of each.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    head: str
    at: str
    file: str
    results: dict[str, int]


class Moved(StateCorrupt):
    """A state that lies elsewhere now. `lineage` is its own."""

    def __init__(self, where: str, moved_to: str, lineage: str) -> None:
        super().__init__(f"{where} was moved to {moved_to}", hint="write that place into the stack file: `state:` and `name:`")
        self.lineage = lineage


@dataclass(frozen=True)
class State:
    """Everything of one stack that exists.

    lineage is made once and never changes; serial grows with every write that changes something but the evidence; outputs are the
    stack's own; evidence: of the newest audit, None when there was none.
    """

    lineage: str
    stack: str
    serial: int = 0
    entries: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    outputs: Mapping[str, Tree] = field(default_factory=dict[str, Any])
    evidence: Evidence | None = None

    @classmethod
    def fresh(cls, stack: str) -> State:
        """Return a new, empty state with a lineage of its own."""
        return cls(lineage=uuid4().hex, stack=stack)

    def with_entry(self, entry: Entry) -> State:
        """Return the state with `entry` put in its place."""
        return replace(self, entries={**self.entries, entry.address: entry})

    def same_things(self, other: State) -> bool:
        """Tell whether both say the same of what exists, whatever was audited since."""
        return replace(self, serial=other.serial, evidence=other.evidence) == other

    def to_json(self, writer: str, *, write: str = "") -> str:
        """Return the file's text: sorted and indented, so that two states can be compared by eye. `writer` is our version.

        write: names this one write, where no two contents may be the same.
        """
        document = {
            "format_version": FORMAT,
            "llmdeploy_version": writer,
            **({"write": write} if write else {}),
            "lineage": self.lineage,
            "serial": self.serial,
            "stack": self.stack,
            "outputs": self.outputs,
            **({"evidence": self.evidence.model_dump(mode="json")} if self.evidence else {}),
            "resources": [self.entries[address].model_dump(mode="json") for address in sorted(self.entries)],
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

    def moved_json(self, writer: str, moved_to: str) -> str:
        """Return the text that stands in the place of a state that lies elsewhere now."""
        document = {"format_version": FORMAT, "llmdeploy_version": writer, "lineage": self.lineage, "moved_to": moved_to}
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str, way_out: str = "restore it from a backup") -> State:
        """Read what `to_json` wrote. `where` names the file in errors, `way_out` says what to do when it is broken.

        Raises:
            StateCorrupt: empty, truncated, not ours, moved away, or written by a newer version.
        """
        if not text.strip():
            raise StateCorrupt(f"{where} is empty", hint=way_out)
        try:
            document = json.loads(text)
            version = document["format_version"]
            if version > FORMAT:
                writer = document.get("llmdeploy_version")
                raise StateCorrupt(
                    f"{where} was written by llmdeploy {writer} in format {version}", hint="use that version or newer"
                )
            if "moved_to" in document:
                raise Moved(where, str(document["moved_to"]), str(document["lineage"]))
            entries = [Entry.model_validate(entry) for entry in document["resources"]]
            return cls(
                lineage=str(document["lineage"]),
                stack=str(document["stack"]),
                serial=int(document["serial"]),
                entries={entry.address: entry for entry in entries},
                outputs=document["outputs"],
                evidence=Evidence.model_validate(document["evidence"]) if "evidence" in document else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
            raise StateCorrupt(f"{where} is not a whole state file of llmdeploy", hint=way_out) from None
