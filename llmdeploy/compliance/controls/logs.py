"""Controls on records and content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...policy import Policy
from ...traits import Traits
from ..model import Breach, Control, Rule, Subject
from ..processes import keeps_content, leaks, reports
from .network import sends
from .residency import FALLBACK_STATED, prompts_unagreed

_LISTED: Final = """
    ts request_id key_id principal tenant model model_revision route endpoint method status error_class termination
    tokens_in tokens_out tokens_cached ttft_ms queue_ms e2e_ms duration_ms stream finish_reason replica node instance_id
    bytes_in bytes_out client_ip_truncated tls_version profile_version
"""
LOG_FIELDS: Final = frozenset(_LISTED.split())
"""Every field that a log line may have: what happened, never what was said. A field that is not here is refused."""

ATTRIBUTED: Final = ("ts", "request_id", "key_id", "principal", "model", "status")
"""Fields that tell who asked which model, when, and with what outcome."""

TRACED: Final = ("ts", "duration_ms", "request_id", "key_id", "model", "replica", "status")
"""Fields from which one use of the system can be followed: begin and end, what served it."""

_ALWAYS: Final = ("no-query", "own-request-ids")
_UNDER_A_PROFILE: Final = ("generic-errors",)
_GUARDS: Final = {
    "generic-errors": "passes on error texts of the engine, which can repeat what a client sent",
    "no-query": "takes query strings, which can hold what a client says",
    "own-request-ids": "takes request ids from clients, which can say anything",
}
_KEPT: Final = "logs: {retention_days: 30}"


def _runs(traits: Traits) -> bool:
    return traits.process is not None


def _logs(traits: Traits) -> bool:
    return traits.log_fields is not None


def _planted(traits: Traits) -> bool:
    return traits.content_found is not None


def _gives_away(traits: Traits, _policy: Policy) -> str:
    process = traits.process
    if process is None:
        return ""
    # KV caches, traces and fetched addresses carry prompts too, and only some profiles have a control on each of them.
    return "; ".join(dict.fromkeys((*leaks(process), *keeps_content(process), *reports(process))))


def _keeps(traits: Traits, _policy: Policy) -> str:
    return "; ".join(keeps_content(traits.process)) if traits.process else ""


def _open_fields(traits: Traits, _policy: Policy) -> str:
    more = sorted(set(traits.log_fields or ()) - LOG_FIELDS)
    return f"logs what is not on the list: {', '.join(more)}" if more else ""


def _unguarded(traits: Traits, policy: Policy) -> str:
    # Without a profile the engine's own error texts are what developers want to see.
    needed = (*_ALWAYS, *(_UNDER_A_PROFILE if policy.strict("LOG-02") else ()))
    missing = [guard for guard in needed if guard not in (traits.guards or ())]
    return "; ".join(_GUARDS[guard] for guard in missing)


def _found(traits: Traits, _policy: Policy) -> str:
    return f"keeps content that was planted: {', '.join(traits.content_found)}" if traits.content_found else ""


def _endless(traits: Traits, _policy: Policy) -> str:
    return "keeps the engine's output without an end" if traits.retention_days is None else ""


def _swaps(traits: Traits, _policy: Policy) -> str:
    return "swaps memory to disk unencrypted" if traits.swap == "plain" else ""


def _dumps(traits: Traits, _policy: Policy) -> str:
    return "writes memory to disk when a program crashes" if traits.core_dumps else ""


def _unattributed(traits: Traits, _policy: Policy) -> str:
    return _lacking(traits, ATTRIBUTED)


def _untraced(traits: Traits, _policy: Policy) -> str:
    return _lacking(traits, TRACED)


def _lacking(traits: Traits, wanted: tuple[str, ...]) -> str:
    missing = [name for name in wanted if name not in (traits.log_fields or ())]
    return f"does not log {', '.join(missing)}" if missing else ""


def _unlogged(subject: Subject) -> Iterator[Breach]:
    if not any(_logs(traits) for traits in subject.traits.values()):
        yield Breach("nothing in the stack logs requests", "gateway", "let requests pass through a gateway that logs them")


def _unstated(subject: Subject) -> Iterator[Breach]:
    logs, (least, _) = subject.stack.logs, subject.policy.log_days
    if not {"retention_days", "max_days"} & logs.model_fields_set:
        sentence = f"how long log lines are kept is not stated; left open, it is {least or logs.retention_days} days"
        yield Breach(sentence, "logs", f"logs: {{retention_days: {least or logs.retention_days}}}", statement=True)


def _too_long(traits: Traits, policy: Policy) -> str:
    days, (_, most) = traits.retention_days, policy.log_days
    if days is None:
        return "does not say how long it keeps records"
    return f"keeps records {days} days, longer than {most}" if most is not None and days > most else ""


def _keeps_records(traits: Traits) -> bool:
    return traits.retention_days is not None or _logs(traits)


def _keeps_log_lines(traits: Traits) -> bool:
    """Tell whether it keeps records of requests; the output of an engine is none, and is best gone soon."""
    return _keeps_records(traits) and not _runs(traits)


def _least(least: int) -> Rule:
    def too_short(traits: Traits, _policy: Policy) -> str:
        days = traits.retention_days
        if days is None:
            return f"does not say how long it keeps records, and {least} days are the least"
        return f"keeps records {days} days, and {least} are the least" if days < least else ""

    return Rule(
        facts=("retention_days",),
        judge=too_short,
        expected=f"{least} days or more",
        concerns=_keeps_log_lines,
        path="logs.retention_days",
        way_out=f"logs: {{retention_days: {least}}}",
    )


_CANARY: Final = Rule(
    facts=("content_found",),
    judge=_found,
    expected="nowhere",
    concerns=_planted,
    path="engine.args",
    way_out="remove what is told, and look for what writes it",
    live=True,
)

_CONTENT: Final = (
    Control(
        id="LOG-01",
        title="The engine gives no content away",
        demand="the engine writes no prompts and no answers down, keeps none, and reports to nobody",
        severity="high",
        rules=(
            Rule(
                facts=("process",),
                judge=_gives_away,
                expected="nothing that writes content down, keeps it, or sends it on",
                concerns=_runs,
                path="engine.args",
                way_out="remove it from engine.args",
            ),
        ),
        forces="the engine's logs of requests and answers, its usage statistics and its stores off",
        uncovered="what an engine prints when it crashes: it can hold parameters of requests",
    ),
    Control(
        id="LOG-02",
        title="Log lines hold listed fields only",
        demand="log lines hold listed fields only, and nothing that a client wrote",
        severity="high",
        rules=(
            Rule(
                facts=("log_fields",),
                judge=_open_fields,
                expected="listed fields only",
                concerns=_logs,
                path="gateway",
                way_out="log listed fields only",
            ),
            Rule(
                facts=("guards",),
                judge=_unguarded,
                expected="general error texts, no query strings, request ids of the gateway's own",
                concerns=lambda traits: traits.guards is not None or _logs(traits),
                path="gateway",
                way_out="let the gateway do it",
            ),
        ),
        forces="general error texts in place of the engine's",
    ),
    Control(
        id="LOG-03",
        title="Planted content is found nowhere",
        demand="content that was planted in every field of a request is found nowhere afterwards",
        severity="high",
        rules=(_CANARY,),
    ),
    Control(
        id="LOG-04",
        title="The engine's output is bounded",
        demand="the engine's output is kept for a bounded time",
        severity="medium",
        rules=(
            Rule(
                facts=("retention_days",),
                judge=_endless,
                expected="a number of days",
                concerns=_runs,
                path="logs.retention_days",
                way_out=_KEPT,
            ),
        ),
    ),
    Control(
        id="LOG-05",
        title="Memory is not written to disk",
        demand="memory is written to disk neither by swapping nor by a crash",
        severity="medium",
        rules=(
            Rule(
                facts=("swap",),
                judge=_swaps,
                expected="none, or encrypted",
                concerns=lambda traits: traits.machine or traits.swap is not None,
                path="provider",
                way_out="on the machine: swapoff -a, and remove swap from /etc/fstab",
            ),
            Rule(
                facts=("core_dumps",),
                judge=_dumps,
                expected="off",
                concerns=lambda traits: traits.machine or traits.core_dumps is not None,
                path="provider",
                way_out='on the machine: sysctl -w kernel.core_pattern="|/bin/false" fs.suid_dumpable=0',
            ),
        ),
    ),
    Control(
        id="PAN-01",
        title="Card numbers in prompts are not kept",
        demand="nothing of a prompt is kept longer than its request takes",
        severity="high",
        rules=(
            Rule(
                facts=("process",),
                judge=_keeps,
                expected="content in memory only",
                concerns=_runs,
                path="engine.args",
                way_out="remove it from engine.args",
            ),
            Rule(
                facts=("data_flows",),
                judge=prompts_unagreed,
                expected="no prompts passed on, or under an agreement",
                concerns=lambda traits: sends(traits, "prompts"),
                path="gateway.fallback",
                way_out=FALLBACK_STATED,
            ),
            _CANARY,
        ),
        uncovered="what a hosted fallback keeps under its agreement",
    ),
)

_RECORDS: Final = (
    Control(
        id="AUD-02",
        title="Each request leaves a record without content",
        demand="each request leaves a record of who asked which model, when, and with what outcome",
        severity="high",
        rules=(
            Rule(
                facts=("log_fields",),
                judge=_unattributed,
                expected=", ".join(ATTRIBUTED),
                concerns=_logs,
                path="gateway",
                way_out=f"log {', '.join(ATTRIBUTED)}",
            ),
        ),
        whole=_unlogged,
    ),
    Control(
        id="AIA-01",
        title="Each use of the system can be followed",
        demand="each use of the system is recorded with its begin, its end, and what served it",
        severity="high",
        rules=(
            Rule(
                facts=("log_fields",),
                judge=_untraced,
                expected=", ".join(TRACED),
                concerns=_logs,
                path="gateway",
                way_out=f"log {', '.join(TRACED)}",
            ),
        ),
        whole=_unlogged,
        uncovered="which revision of the model answered: the state tells it, a log line does not",
    ),
    Control(
        id="RET-01",
        title="How long records are kept is stated and held",
        demand="how long log lines are kept is written in the stack file, and held",
        severity="medium",
        rules=(
            Rule(
                facts=("retention_days",),
                judge=_too_long,
                expected="within logs.max_days, or logs.retention_days where that is all there is",
                concerns=_keeps_records,
                path="logs",
                way_out="choose days that the service can keep, or allow more: logs: {..., max_days: N}",
            ),
        ),
        whole=_unstated,
    ),
    Control(
        id="RET-02",
        title="Records are kept for a year",
        demand="log lines are kept 365 days or longer",
        severity="medium",
        rules=(_least(365),),
        forces="logs.retention_days: 365",
        uncovered="that the last three months can be read at once",
    ),
    Control(
        id="AIA-02",
        title="Records are kept for six months",
        demand="log lines are kept 183 days or longer",
        severity="high",
        rules=(_least(183),),
        forces="logs.retention_days: 183",
    ),
)

CONTROLS: Final = (*_CONTENT, *_RECORDS)
