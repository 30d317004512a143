"""The whole exception tree. Only `cli` catches `LlmdeployError`; anything else that escapes is a bug.

LlmdeployError                 exit code 1; `hint` says what to do next
├── StackError                 the stack file, its variables or its pins are wrong (carries diagnostics)
├── NotBuilt                   valid input that this version cannot carry out
├── StateError                 the state cannot be used
│   ├── Locked                 somebody else works on this stack
│   ├── StateCorrupt           empty, truncated, foreign or newer state
│   ├── Fenced                 somebody else took the lock over and wrote since
│   └── StalePlan              the world moved since the plan was saved
├── ProviderError              a resource operation failed; `retryable` says whether waiting may help
│   ├── TokenSpent             the object of this idempotency token is gone; a new generation is needed
│   ├── NotOwned               something is there that this stack did not make
│   └── CommandFailed          a command on a host failed; carries its status and its last lines
├── SecretError                a secret reference cannot be resolved (never contains the secret)
├── PreflightFailed            something is missing before the first effect
├── PromiseBroken              apply would do something else than the plan said
├── ApplyFailed                some resources failed; the others are done
└── Interrupted                stopped by the user; exit code 130
"""

from __future__ import annotations

from collections.abc import Sequence


class LlmdeployError(Exception):
    """Base of every error that a person can act on.

    `message` says what happened and where, `hint` what to do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class StackError(LlmdeployError):
    """The stack file is wrong. `diagnostics` holds every finding, each with its place."""

    def __init__(self, message: str, *, hint: str = "", diagnostics: Sequence[object] = ()) -> None:
        super().__init__(message, hint=hint)
        self.diagnostics = tuple(diagnostics)


class NotBuilt(LlmdeployError):
    """Valid input that this version of llmdeploy cannot carry out."""


class StateError(LlmdeployError):
    """The state cannot be used as it is."""


class Locked(StateError):
    """Somebody else holds the lock of this stack."""


class StateCorrupt(StateError):
    """The state is empty, truncated, foreign, or written by a newer version."""


class Fenced(StateError):
    """Somebody else took the lock over and wrote since; this run may not write any more."""


class StalePlan(StateError):
    """A saved plan no longer belongs to the present state, stack file or lock file."""


class ProviderError(LlmdeployError):
    """An operation on a resource failed. `retryable`: the same call may succeed later."""

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class TokenSpent(ProviderError):
    """The object that this idempotency token stands for was removed; only a new generation can make another one."""


class NotOwned(ProviderError):
    """Something stands in the way that this stack did not make; it is used or refused, never changed."""


class CommandFailed(ProviderError):
    """A command on a host failed. `status` is its exit status, `tail` its last lines without secrets."""

    def __init__(self, message: str, *, status: int, tail: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.tail = tail


class SecretError(LlmdeployError):
    """A secret reference cannot be resolved. Its text never contains the secret."""


class PreflightFailed(LlmdeployError):
    """Something that the apply needs is missing; nothing was touched."""


class PromiseBroken(LlmdeployError):
    """Apply would change a value that the plan showed as known."""


class ApplyFailed(LlmdeployError):
    """Some resources failed. `failed` maps address to sentence; `skipped` maps address to the failed one it waits for."""

    def __init__(self, message: str, *, failed: dict[str, str], skipped: dict[str, str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.failed = failed
        self.skipped = skipped


class Interrupted(LlmdeployError):
    """The user stopped the run. What was in flight is named in the message."""

    exit_code = 130
