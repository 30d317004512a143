"""Decides offline what a policy document lets whom do, as AWS does: an explicit deny beats every allow, and nothing is allowed
by itself.

Each question has three answers: yes, no, and None for what cannot be told. What this module does not know of a document (an
operator, NotPrincipal, a variable, a key of the request that the call says nothing of) cannot be told, and neither can what is
malformed; `Decision` lets callers count that against the document, whichever way round they ask.

A reference in a document names one thing of the stack. It is never the same as something that a call spells out, and `UNKNOWN`
may be the same as another `UNKNOWN`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final, cast

from llmdeploy.sdk import Ref, Tree, Unknown

Answer = bool | None
HOLDER: Final = ""
"""As the principal of a call: whom the policy is attached to. Its statements name nobody then."""
ITSELF: Final = "itself"
"""As the resource of a call: the thing that the policy belongs to. `Resource: "*"` means it there."""

_ACCOUNT = re.compile(r"(?:arn:[a-z-]+:iam::)?([0-9]{12})(?::root)?\Z")
_ELEMENTS = frozenset({"Sid", "Effect", "Principal", "Action", "Resource", "Condition"})
_ARN_PARTS = 6


@dataclass(frozen=True)
class Call:
    """Somebody calls something.

    principal: ARN of a role or user, domain name of a service, or `HOLDER`. context: condition keys with their values, None for
    one that the request surely does not have; of any other it is not known whether it has it. aws:PrincipalArn and
    aws:SecureTransport are known of every call: it is over TLS unless the context says otherwise.
    """

    principal: str
    action: str
    resource: Tree = ITSELF
    context: Mapping[str, Tree] = field(default_factory=dict[str, Tree])

    @property
    def keys(self) -> dict[str, Tree]:
        """The condition keys of the request, in small letters as AWS compares them."""
        caller = self.principal if self.principal.startswith("arn:") else None
        known: dict[str, Tree] = {"aws:securetransport": "true", "aws:principalarn": caller}
        return known | {key.lower(): value for key, value in self.context.items()}


@dataclass(frozen=True)
class Decision:
    """What one document says about one call. allowed: a statement allows it; denied: a statement denies it."""

    allowed: Answer
    denied: Answer

    @property
    def surely_allows(self) -> bool:
        """Whether it is allowed for certain."""
        return self.allowed is True and self.denied is False

    @property
    def may_allow(self) -> bool:
        """Whether it cannot be excluded that it is allowed."""
        return self.allowed is not False and self.denied is not True

    @property
    def surely_denies(self) -> bool:
        """Whether it is denied for certain, whatever other policies allow."""
        return self.denied is True


def decide(document: Tree, call: Call) -> Decision:
    """Return what a document says about a call. Pure."""
    matches = [(one.get("Effect"), _matches(one, call)) for one in statements(document)]
    if not matches or any(effect not in ("Allow", "Deny") for effect, _ in matches):
        return Decision(None, None)
    return Decision(*(_any(answer for effect, answer in matches if effect == wanted) for wanted in ("Allow", "Deny")))


def statements(document: Tree) -> Sequence[Mapping[str, Tree]]:
    """Return the statements of a document; none when it is no document."""
    found = mapped(document)
    return [mapped(one) or {} for one in listed(found.get("Statement"))] if found is not None else []


def mapped(element: Tree) -> Mapping[str, Tree] | None:
    """Return an element as a mapping, None when it is none."""
    return cast("Mapping[str, Tree]", element) if isinstance(element, Mapping) else None


def listed(element: Tree) -> Sequence[Tree]:
    """Return an element of a statement as a list: one value may stand for a list of one."""
    return cast("Sequence[Tree]", element) if isinstance(element, list | tuple) else [element]


# --- one statement ----------------------------------------------------------------------------------------------------------


def _matches(statement: Mapping[str, Tree], call: Call) -> Answer:
    if not statement.keys() <= _ELEMENTS:
        return None
    return _all(test(statement, call) for test in (_action, _principal, _resource, _conditions))


def _action(statement: Mapping[str, Tree], call: Call) -> Answer:
    called = call.action.lower()
    return _any(_like(_lower(wanted), called) for wanted in listed(statement.get("Action")))


def _principal(statement: Mapping[str, Tree], call: Call) -> Answer:
    if call.principal == HOLDER:
        return True if "Principal" not in statement else None
    wanted = statement.get("Principal")
    if wanted == "*":
        return True
    if not (kinds := mapped(wanted)):
        return None
    return _any(_named(kind, one, call.principal) for kind, values in kinds.items() for one in listed(values))


def _named(kind: str, wanted: Tree, principal: str) -> Answer:
    if kind not in ("AWS", "Service") or wanted is None:
        return None
    if kind == "AWS" and wanted == "*":
        return True
    if isinstance(wanted, Ref | Unknown):
        return False
    if not isinstance(wanted, str) or "*" in wanted:
        return None
    account = _ACCOUNT.match(wanted) if kind == "AWS" else None
    return wanted == principal or (account is not None and principal.split(":")[4:5] == [account[1]])


def _resource(statement: Mapping[str, Tree], call: Call) -> Answer:
    # The policy of a role says who may take it, and never which role.
    if "Resource" not in statement:
        return True if call.action.startswith("sts:") else None
    return _any(_like(wanted, call.resource) for wanted in listed(statement["Resource"]))


def _conditions(statement: Mapping[str, Tree], call: Call) -> Answer:
    operators = mapped(statement.get("Condition", {}))
    return None if operators is None else _all(_operator(name, mapped(tests), call.keys) for name, tests in operators.items())


def _operator(name: str, tests: Mapping[str, Tree] | None, keys: Mapping[str, Tree]) -> Answer:
    base = name.removesuffix("IfExists")
    if base not in _OPERATORS or tests is None or (base == "Null" and base != name):
        return None
    return _all(_test(base, wanted, key, keys, lenient=base != name) for key, wanted in tests.items())


def _test(base: str, wanted: Tree, key: str, keys: Mapping[str, Tree], *, lenient: bool) -> Answer:
    if key.lower() not in keys:
        return None
    value, (compare, negated) = keys[key.lower()], _OPERATORS[base]
    if base == "Null":
        return (str(wanted).lower() == "true") == (value is None) if str(wanted).lower() in ("true", "false") else None
    if value is None:
        return lenient or negated
    found = _any(compare(one, value) for one in listed(wanted))
    return _not(found) if negated else found


# --- single values ----------------------------------------------------------------------------------------------------------


def _is_reference(value: Tree) -> bool:
    return isinstance(value, Ref | Unknown)


def _same(wanted: Tree, value: Tree) -> Answer:
    if _is_reference(wanted) or _is_reference(value):
        both = _is_reference(wanted) and _is_reference(value)
        return False if not both else wanted == value if isinstance(wanted, Ref) and isinstance(value, Ref) else None
    return wanted == value if isinstance(wanted, str) and "${" not in wanted else None


def _like(wanted: Tree, value: Tree) -> Answer:
    if wanted == "*":
        return True
    if not isinstance(wanted, str) or "${" in wanted or not isinstance(value, str):
        return None if isinstance(wanted, str) and "*" in wanted else _same(wanted, value)
    return _pattern(wanted).match(value) is not None


def _arn_like(wanted: Tree, value: Tree) -> Answer:
    if not isinstance(wanted, str) or not isinstance(value, str):
        return _same(wanted, value)
    left, right = wanted.split(":", _ARN_PARTS - 1), value.split(":", _ARN_PARTS - 1)
    return _all(map(_like, left, right)) if len(left) == len(right) == _ARN_PARTS else None


def _bool(wanted: Tree, value: Tree) -> Answer:
    asked = str(wanted).lower()
    return asked == str(value).lower() if asked in ("true", "false") else None


def _lower(value: Tree) -> Tree:
    return value.lower() if isinstance(value, str) else value


@cache
def _pattern(wanted: str) -> re.Pattern[str]:
    escaped = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in re.split(r"([*?])", wanted))
    return re.compile("".join(escaped) + r"\Z", re.DOTALL)


_OPERATORS: Final[Mapping[str, tuple[Callable[[Tree, Tree], Answer], bool]]] = {
    "StringEquals": (_same, False),
    "StringNotEquals": (_same, True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    "ArnEquals": (_arn_like, False),
    "ArnLike": (_arn_like, False),
    "ArnNotEquals": (_arn_like, True),
    "ArnNotLike": (_arn_like, True),
    "Bool": (_bool, False),
    "Null": (_bool, False),
}
"""Operators of conditions: how one wanted value is compared, and whether the answer is turned round."""


# --- three answers ----------------------------------------------------------------------------------------------------------


def _all(answers: Iterable[Answer]) -> Answer:
    told: Answer = True
    for answer in answers:
        if answer is False:
            return False
        told = told and answer
    return told


def _any(answers: Iterable[Answer]) -> Answer:
    return _not(_all(map(_not, answers)))


def _not(answer: Answer) -> Answer:
    return None if answer is None else not answer
