"""The evidence file of an audit: lines of JSON, each bound to the one before by its digest.

A record is canonical JSON (sorted keys, no blanks, ASCII) with `n` (from 1), `kind`, `prev` (the digest of the record before; of
the first one: the head of the audit before, or zeros) and `digest` (SHA-256 of the record without it). The digest of the last
record is the head. Whoever knows the head from elsewhere finds every change, also when the whole file was made anew.

Kinds, in this order:
    audit        what was audited, by whom, with what, from when
    observation  one fact of one resource: value or reason, host, command, output and its digest
    result       what one control says of one resource, with the digests of the observations that it rests on
    end          how many records there are, how many of each result, and when it ended
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote

from .errors import LlmdeployError
from .secret import write_private

FORMAT = 1
"""Version of the file format. It grows when an older llmdeploy could misread a newer file."""
START = "0" * 64
"""What stands for the head before the first audit."""
REDACTED = "[redacted]"

Kind = Literal["audit", "observation", "result", "end"]
Record = Mapping[str, Any]

_KINDS: tuple[Kind, ...] = ("audit", "observation", "result", "end")
API_KEY = re.compile(r"llmd_(?:live|test)_[0-9A-Za-z_]{16,}")
"""An API key of llmdeploy, also one that was cut off."""
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_SHORTEST_SECRET = 6
_SHORTEST_LINE = 16
_SHOWN = 20
"""Characters of a forged value that a sentence about it repeats."""


def digest(content: bytes) -> str:
    """Return the SHA-256 of `content` in hex."""
    return sha256(content).hexdigest()


def canonical(record: Record) -> bytes:
    """Return the one form in which a record is written. Raises ValueError or TypeError for what JSON cannot hold."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


# --- writing ------------------------------------------------------------------------------------------------------------------


class Chain:
    """Records that are being gathered. prev: the head of the audit before."""

    def __init__(self, prev: str = START) -> None:
        self.head = prev
        self._lines: list[bytes] = []
        self._results: Counter[str] = Counter()

    def add(self, kind: Kind, fields: Record) -> str:
        """Add a record and return its digest. An observation gets the digest of its output."""
        record = {**fields, "kind": kind, "n": len(self._lines) + 1, "prev": self.head}
        if kind == "observation":
            record["output_sha256"] = digest(str(fields["output"]).encode("utf-8", "surrogatepass"))
        if kind == "result":
            self._results[str(fields["result"])] += 1
        self.head = digest(canonical(record))
        self._lines.append(canonical({**record, "digest": self.head}))
        return self.head

    def end(self, fields: Record) -> str:
        """Add the last record and return the head."""
        return self.add("end", {**fields, "count": len(self._lines) + 1, "results": dict(self._results)})

    @property
    def content(self) -> bytes:
        """The whole file."""
        return b"".join(line + b"\n" for line in self._lines)


def write(path: Path, chain: Chain) -> None:
    """Write the file, whole or not at all, durably, for its owner only.

    Raises:
        LlmdeployError: it cannot be written.
    """
    try:
        write_private(path, chain.content)
    except OSError as error:
        with suppress(OSError):
            path.with_name(f".{path.name}.new").unlink(missing_ok=True)
        raise LlmdeployError(
            f"cannot write the evidence {path}: {error.strerror}", hint="free disk space, or check the rights of that folder"
        ) from None


class Redactor:
    """Takes secrets out of what is written: everything that looks like an API key, and the values that are named.

    A value counts as text, as JSON and URLs hold it, in hex and in base64; of one with several lines each line counts. What is
    shorter than six characters is left, because it would be found everywhere.
    """

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        self._forms = sorted(forms, key=lambda form: (-len(form), form))

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        for form in self._forms:
            text = text.replace(form, REDACTED)
        return API_KEY.sub(REDACTED, text)

    def tree(self, tree: Any) -> Any:
        """Return a JSON tree without secrets, in keys too."""
        if isinstance(tree, str):
            return self.text(tree)
        if isinstance(tree, Mapping):
            mapping = cast("Mapping[Any, Any]", tree)
            return {self.tree(key): self.tree(value) for key, value in mapping.items()}
        if isinstance(tree, list | tuple):
            return [self.tree(one) for one in cast("Sequence[Any]", tree)]
        return tree


def _forms(secret: bytes) -> Iterator[str]:
    if len(secret) < _SHORTEST_SECRET:
        return
    yield from (secret.hex(), secret.hex().upper())
    for encoded in (base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode()):
        yield encoded.rstrip("=")
        if len(secret) >= _SHORTEST_LINE:
            yield encoded[: len(secret) // 3 * 4]  # whatever followed it, such as the newline of its file
    with suppress(UnicodeDecodeError):
        text = secret.decode()
        yield from (text, json.dumps(text)[1:-1], quote(text, safe=""))
        # Of a key file in PEM, the first and the last line are no secret.
        yield from (line for line in text.splitlines() if len(line) >= _SHORTEST_LINE and not line.startswith("-----"))


# --- reading ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file, and in which line (from 1)."""

    line: int
    sentence: str


@dataclass(frozen=True)
class Verification:
    """What was found out about a file. head: as its last line names it; problems: none when nothing was changed.

    records: the lines, as far as they can be read.
    """

    head: str
    records: tuple[Record, ...]
    problems: tuple[Problem, ...]

    @property
    def intact(self) -> bool:
        """Whether every record is as it was written, none is missing, and none was added."""
        return not self.problems

    @property
    def begin(self) -> Record:
        """The first record; empty when it cannot be read."""
        return self.records[0] if self.records else {}


def verify(path: Path, head: str | None = None) -> Verification:
    """Check a file. head: what its head must be, known from elsewhere.

    Raises:
        LlmdeployError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise LlmdeployError(f"cannot read {path}: it is no file", hint="name a file of .llmdeploy/evidence")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LlmdeployError(f"cannot read {path}: {error.strerror}", hint="name a file of .llmdeploy/evidence") from None
    return verified(content, head)


def verified(content: bytes, head: str | None = None) -> Verification:
    """Check the content of a file. See `verify`."""
    lines = content.split(b"\n")
    problems: list[Problem] = []
    if lines.pop():
        problems.append(Problem(len(lines) + 1, "the file is cut off: its last line has no end"))
    records = [_record(line) for line in lines]
    before = ""
    for number, (line, record) in enumerate(zip(lines, records, strict=True), 1):
        problems += (Problem(number, sentence) for sentence in _wrong(line, record, number, before))
        before = str(record.get("digest", "")) if record else ""
    readable = tuple(record for record in records if record is not None)
    problems += _order(readable, max(1, len(lines)))
    found = str(readable[-1].get("digest", "")) if readable else ""
    if head is not None and found != head:
        problems.append(Problem(max(1, len(lines)), f"its head is {found or 'missing'}, not {head}: this is another file"))
    return Verification(found, readable, tuple(sorted(problems, key=lambda one: one.line)))


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _wrong(line: bytes, record: dict[str, Any] | None, number: int, before: str) -> Iterator[str]:
    """Yield what is wrong with one line. before: the digest that the line before names, "" where none can be read."""
    if record is None:
        yield "it is no record: it was changed"
        return
    if not _is_canonical(line, record):
        yield "it is not written as records are: it was changed"
    rest = {name: value for name, value in record.items() if name != "digest"}
    if digest(_written(rest)) != record.get("digest"):
        yield "it does not have the digest that it names: it was changed"
    if record.get("n") != number:
        named = str(record.get("n"))[:_SHOWN]
        yield f"it is record {named} of the file as it was written: lines were removed, added or moved"
    prev = str(record.get("prev"))
    if not _DIGEST.match(prev) or (number > 1 and before and prev != before):
        yield "it does not follow the line before: lines were removed, added or moved"
    output = record.get("output")
    if isinstance(output, str) and digest(output.encode("utf-8", "surrogatepass")) != record.get("output_sha256"):
        yield "its output does not have the digest that it names"


def _is_canonical(line: bytes, record: Record) -> bool:
    return _written(record) == line


def _written(record: Record) -> bytes:
    try:
        return canonical(record)
    except (ValueError, TypeError, RecursionError):
        return b""


def _order(records: Sequence[Record], last: int) -> Iterator[Problem]:
    """Yield what is wrong with the file as a whole."""
    kinds = [record.get("kind") for record in records]
    if not kinds or kinds[0] != "audit":
        yield Problem(1, "it does not begin with the record of an audit")
    elif not isinstance(records[0].get("format"), int) or records[0]["format"] > FORMAT:
        format = str(records[0].get("format"))[:_SHOWN]
        yield Problem(1, f"it has the format {format}, which this version of llmdeploy does not know")
    places = [_KINDS.index(kind) if kind in _KINDS else -1 for kind in kinds]
    if places != sorted(places) or -1 in places or any(kinds.count(kind) > 1 for kind in ("audit", "end")):
        yield Problem(last, "its records are not in their order")
    if not kinds or kinds[-1] != "end":
        yield Problem(last, "its end is missing: it was cut off")
        return
    yield from (Problem(last, sentence) for sentence in _end(records))


def _end(records: Sequence[Record]) -> Iterator[str]:
    """Yield what its last record counts differently, and evidence that is not there."""
    end = records[-1]
    if end.get("count") != len(records):
        yield f"it counts {str(end.get('count'))[:_SHOWN]} records, and there are {len(records)}"
    results = [record for record in records if record.get("kind") == "result"]
    if end.get("results") != dict(Counter(str(record.get("result")) for record in results)):
        yield "it counts other results than there are"
    observed = {str(record.get("digest")) for record in records if record.get("kind") == "observation"}
    for record in results:
        evidence: Any = record.get("evidence")
        if not isinstance(evidence, list) or not observed.issuperset(str(one) for one in cast("list[Any]", evidence)):
            yield f"record {str(record.get('n'))[:_SHOWN]} rests on observations that are not there"
