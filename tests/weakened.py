"""Policy documents with one thing changed, each change as somebody could make it by mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from llmdeploy.sdk import Tree

Document = Mapping[str, Any]
POLICY_FIELDS = ("policy", "policy_document", "resource_policy", "assume_role_policy_document")
_INVERTED = {
    "StringEquals": "StringNotEquals",
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIfExists": "StringEqualsIfExists",
    "ArnLike": "ArnNotLike",
}
_OTHER = {"true": "false", "false": "true"}


def weakened(document: Document) -> Iterator[tuple[str, Document]]:
    """Yield what was changed, and the document with that change: a statement dropped, turned round or widened, one by one."""
    statements: Sequence[Document] = document["Statement"]
    for index, statement in enumerate(statements):
        name = statement.get("Sid", str(index))
        before, after = statements[:index], statements[index + 1 :]
        yield f"{name}: dropped", {**document, "Statement": [*before, *after]}
        for what, changed in _changed(statement):
            yield f"{name}: {what}", {**document, "Statement": [*before, changed, *after]}


def _changed(statement: Document) -> Iterator[tuple[str, Document]]:
    yield "effect turned round", {**statement, "Effect": "Deny" if statement["Effect"] == "Allow" else "Allow"}
    for element, words in (("Principal", "for everybody"), ("Action", "any action"), ("Resource", "any resource")):
        if statement.get(element, "*") != "*":
            yield words, {**statement, element: "*"}
            yield f"{element} unknown", {**statement, element: None}
    for operator, tests in cast("Mapping[str, Mapping[str, Tree]]", statement.get("Condition", {})).items():
        rest = {name: value for name, value in statement["Condition"].items() if name != operator}
        yield f"without {operator}", {**statement, "Condition": rest}
        yield f"{operator} turned round", {**statement, "Condition": rest | {_INVERTED.get(operator, "Odd"): tests}}
        for key, value in tests.items():
            other = "arn:*:*:*:*:*" if operator.startswith("Arn") else _OTHER.get(str(value), "arn:aws:iam::000000000000:role/x")
            yield f"{operator} {key} altered", {**statement, "Condition": rest | {operator: {**tests, key: other}}}
