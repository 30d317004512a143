"""`host_engine`: the process of an inference engine on a machine, listening on a private socket."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import model_validator

from llmdeploy.sdk import (
    EVIDENCE,
    CommandFailed,
    Context,
    Drift,
    EngineProcess,
    Identity,
    Input,
    NotBuilt,
    NotDiffed,
    Observation,
    OperationResult,
    Outputs,
    PlannedChange,
    Prior,
    Problem,
    ProcessSpec,
    ReadResult,
    Replace,
    ReplaceWith,
    Run,
    Software,
    Timeouts,
    Traits,
    Tree,
    has_unknown,
    observed,
)

from . import _container, _engine_evidence, _kv_cache, _service
from ._connection import Connection, HostSpec, Paths
from ._host_type import HostType, parse_facts
from ._scripts import render
from ._session import run_script, session

Network = Literal["isolated", "loopback"]

MAX_SOCKET_LENGTH: Final = 107
"""Bytes of a unix socket's path that Linux takes."""

_UUID_LENGTH: Final = 36

# Exit statuses of the starting script.
_DIED, _SLOW, _MUTE = 70, 71, 72
_SENTENCES: Final = {
    _DIED: "the engine ended while it was starting; its last lines follow",
    _SLOW: "the engine was not ready in time and was stopped; its last lines follow",
    _MUTE: "the engine started but does not complete a prompt, and was stopped; its last lines follow",
}

_SOCKET: Final = "{socket}"
"""Token of a process that listens on the socket that it is given."""

_NETWORK: Final = "if unshare --net true 2>/dev/null && command -v ip >/dev/null; then echo isolated; else echo loopback; fi\n"


class EngineSpec(HostSpec):
    """One serving process.

    key: tells the engines of one machine apart. engine, version: which one it is, "" in a state file that is older than these
    fields. python: interpreter of its runtime; image: container image of it; one of both. process: what to run; an argv that
    begins with `python` gets that interpreter. weights: folder of the model. volume: the folder on which its cache and home lie.
    user: the system user that it runs as. log_retention_days: no line of its log is kept longer. gpu_indices: the machine's GPUs
    that it uses, and no others. head: private address of the replica's first machine, which a process that names it reaches.
    """

    key: Annotated[str, Replace("the process gets another name")] = "0"
    engine: Annotated[str, NotDiffed()] = ""
    version: Annotated[str, NotDiffed()] = ""
    python: Input[str] | None = None
    image: Input[str] | None = None
    runtime_digest: Input[str]
    weights: Input[str]
    weights_digest: Input[str]
    volume: Annotated[Input[str], ReplaceWith("the volume under it is replaced")]
    process: ProcessSpec
    user: Input[str]
    supervisor: Annotated[Input[str], ReplaceWith("the process supervisor is replaced")]
    log_retention_days: int = 30
    gpu_indices: tuple[int, ...] | None = None
    head: Input[str] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.python is None) == (self.image is None):
            raise ValueError("one of python and image says where the engine's runtime is")
        if self.head is None and _container.spans_machines(self.process):
            raise ValueError("the process names the replica's first machine, and head does not say where that is")
        return self


class EngineOutputs(Outputs):
    """What the process tells.

    socket: where it listens. log: where its log is found. network: whether its inner ports are in a namespace of their own.
    kv_cache_tokens: size of its KV cache as it reported it itself; None when it tells none.
    """

    socket: str
    service: str
    log: str
    network: Network = "loopback"
    kv_cache_tokens: int | None = None


class HostEngine(HostType[EngineSpec, EngineOutputs]):
    """A process under the machine's supervisor; it is there when it completed a prompt."""

    name: ClassVar[str] = "host_engine"
    spec = EngineSpec
    outputs = EngineOutputs
    changing_outputs: ClassVar[frozenset[str]] = frozenset({"log", "network", "kv_cache_tokens"})
    timeouts: ClassVar[Timeouts] = Timeouts(create_s=7200, update_s=7200, delete_s=300)

    def __init__(self) -> None:
        self.operations = {"inspect": self._inspect, "logs": self._logs, EVIDENCE: self._evidence}

    def plan(self, prior: Prior | None, values: Mapping[str, Tree]) -> PlannedChange:
        """Say of a new process in a container or on GPUs how it is held."""
        planned = super().plan(prior, values)
        new = planned.action in ("create", "replace")
        return replace(planned, details=_container.details(values)) if new else planned

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The socket follows from the stack's lineage."""
        paths, key = Paths.of(identity), values.get("key", "0")
        if paths is None or not isinstance(key, str):
            return {}
        return {"socket": socket_of(paths, key), "service": service_name(key)}

    def create(self, ctx: Context, spec: EngineSpec) -> EngineOutputs:
        """Start it and wait until it completes a prompt. A failed start is stopped again."""
        return self._start(ctx, spec, stop_first=False)

    def update(self, ctx: Context, prior: Prior, spec: EngineSpec) -> EngineOutputs:
        """Restart it with the new definition, or because it does not answer."""
        return self._start(ctx, spec, stop_first=bool(prior.drift))

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Stop it and remove what it wrote."""
        if not has_unknown(prior.spec):
            spec = prior.spec_as(EngineSpec)
            self.script(ctx, spec, remove_script(Paths(ctx.run.slug), spec))

    def probe(self, paths: Paths, prior: Prior) -> str:
        """See HostType."""
        spec = prior.spec_as(EngineSpec)
        return "" if _unbuilt(spec) else probe_script(paths, spec)

    def observe(self, prior: Prior, facts: Mapping[str, str]) -> ReadResult:
        """See HostType. An engine without a definition is one that is not running: the same update repairs both."""
        if not prior.outputs:
            return ReadResult(prior.address)
        return ReadResult(prior.address, drift=tuple(Drift(field, text) for field, text in _findings(facts)))

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """Memory for a new process, and paths that a socket can have."""
        paths = Paths.of(run.identity)
        if unbuilt := _unbuilt(EngineSpec.model_validate(values)):
            return (Problem(unbuilt, "`llmdeploy plan` shows all of it"),)
        process = ProcessSpec.model_validate(values["process"])
        problems = _path_problems(paths, str(values.get("key", "0"))) if paths else ()
        if prior is not None and prior.exists and prior.status == "ok":
            return problems
        if has_unknown(values.get("host")):
            return problems
        connection = Connection.model_validate(values["host"])
        available = int(session(run, connection).run(render("engine_memory.sh.j2")))
        return (*problems, *_memory_problems(available, process.memory_bytes))

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Nothing of it can be reached from outside the machine, and nothing that it writes holds prompts or answers.

        Parts of a replica on several machines talk to each other without encryption or a password. Whether it has a network of
        its own, from which nothing leads out, is certain for a container; elsewhere the machine decides when it is created.
        """
        process = ProcessSpec.model_validate(values["process"])
        name, version = str(values.get("engine") or ""), str(values.get("version") or "")
        spans = _container.spans_machines(process)
        # A process that is not told its socket listens somewhere else, and nobody looked where.
        hidden = not spans and any(text.rpartition("=")[2] == _SOCKET for text in (*process.argv, *process.env.values()))
        note = "the machines of a replica talk to each other unencrypted: only they may reach each other's ports"
        return Traits(
            in_transit="local" if hidden else "plain",
            exposure="none" if hidden else "private",
            egress="open" if spans else "none" if values.get("image") is not None else None,
            process=EngineProcess(engine=name, argv=process.argv, env=process.env) if name else None,
            software=(Software(name=name, version=version),) if name and version else None,
            privileged=False,
            core_dumps=False,
            private=True,
            retention_days=values.get("log_retention_days", 30),
            content_found=(),
            notes=(note,) if spans else (),
        )

    def _start(self, ctx: Context, spec: EngineSpec, *, stop_first: bool) -> EngineOutputs:
        if unbuilt := _unbuilt(spec):
            raise NotBuilt(unbuilt)
        paths = Paths(ctx.run.slug)
        ctx.acked(service_name(spec.key))
        network: Network = "isolated" if self.script(ctx, spec, _NETWORK).strip() == "isolated" else "loopback"
        try:
            printed = self.script(ctx, spec, start_script(paths, spec, network, stop_first=stop_first))
        except CommandFailed as error:
            if error.status not in _SENTENCES:
                raise
            raise CommandFailed(_SENTENCES[error.status], status=error.status, tail=error.tail, hint=error.hint) from None
        reported = _reported(spec, _facts(printed))
        if sentence := _kv_cache.judge(spec.process.kv_cache_tokens, reported)[1]:
            ctx.progress(sentence)
        return EngineOutputs(
            socket=socket_of(paths, spec.key),
            service=service_name(spec.key),
            log=_service.log_location(paths, service_name(spec.key), spec.supervisor),
            network=network,
            kv_cache_tokens=reported,
        )

    def _inspect(self, ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
        """Return how it is.

        state: "ready", "starting" or "stopped". pid, restarts, network. Of one that is ready also kv_cache_tokens: the size of
        its KV cache as it reports it now; predicted_kv_cache_tokens: what the plan said; None where one is not known. healthy and
        notes: whether the first keeps what the second promised, see `_kv_cache.judge`.
        """
        del args
        spec, paths = prior.spec_as(EngineSpec), Paths(ctx.run.slug)
        script = probe_script(paths, spec) + _kv_cache.metric_script(socket_of(paths, spec.key), spec.process.kv_cache_metric)
        facts = _facts(run_script(ctx, spec.host, script))
        running = facts.get("running") == "yes"
        state = "stopped" if not running else "ready" if facts.get("health") == "200" else "starting"
        numbers = {name: int(facts.get(name) or 0) for name in ("pid", "restarts")}
        found = {"state": state, **numbers, "network": prior.outputs.get("network")}
        return OperationResult({**found, **(_kv_cache_told(spec, facts) if state == "ready" else {})})

    def _evidence(self, ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
        """Look at the running process and at what it keeps; it is asked with planted content, and answers like to a client."""
        del args
        spec, paths = prior.spec_as(EngineSpec), Paths(ctx.run.slug)
        if unbuilt := _unbuilt(spec):
            return observed(_unseen(spec, unbuilt))
        network: Network = "loopback" if prior.outputs.get("network") == "loopback" else "isolated"
        place = _engine_evidence.Place(
            engine=spec.engine,
            service=engine_service(paths, spec, network),
            supervisor=spec.supervisor,
            socket=socket_of(paths, spec.key),
            data=_data(spec),
            work=_tmp(paths, spec.key),
            files=engine_files(paths, spec),
        )
        return observed(_engine_evidence.observe(ctx, spec.host, paths, place))

    def _logs(self, ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
        """Tell the last `lines` lines, and with `follow` every new one until the run is stopped."""
        spec, paths = prior.spec_as(EngineSpec), Paths(ctx.run.slug)
        show = _service.follow_script if args.get("follow") else _service.log_script
        script = show(paths, service_name(spec.key), int(args.get("lines") or 100), spec.supervisor)
        told = "while IFS= read -r line; do printf '::progress %s\\n' \"$line\"; done"
        run_script(ctx, spec.host, f"(\n{script}) | {told}")
        return OperationResult()


RESOURCE = HostEngine()


def _facts(printed: str) -> Mapping[str, str]:
    return parse_facts(f"::resource engine\n{printed}")["engine"]


def _reported(spec: EngineSpec, facts: Mapping[str, str]) -> int | None:
    return _kv_cache.reported_tokens(facts.get(_kv_cache.FACT, ""), spec.process.kv_cache_metric)


def _kv_cache_told(spec: EngineSpec, facts: Mapping[str, str]) -> dict[str, Tree]:
    reported, predicted = _reported(spec, facts), spec.process.kv_cache_tokens
    well, sentence = _kv_cache.judge(predicted, reported)
    told: dict[str, Tree] = {"kv_cache_tokens": reported, "predicted_kv_cache_tokens": predicted or None, "healthy": well}
    return {**told, "notes": [sentence] if sentence else []}


def _unseen(spec: EngineSpec, reason: str) -> tuple[Observation, ...]:
    return tuple(Observation(fact=fact, host=spec.host.address, reason=reason) for fact in _engine_evidence.FACTS)


def _unbuilt(spec: EngineSpec) -> str:
    """Return why this version cannot run the process, "" when it can."""
    what = [
        *(["on GPUs"] if spec.gpu_indices else []),
        *(["in a container"] if spec.image is not None else []),
        *(["over several machines"] if _container.spans_machines(spec.process) else []),
    ]
    return f"to run an engine {' and '.join(what)} is planned only: this version of llmdeploy cannot do it yet" if what else ""


# --- names ------------------------------------------------------------------------------------------------------------------


def service_name(key: str) -> str:
    """Return the name of the service; keys of addresses may hold what a service's name may not."""
    return f"engine-{re.sub(r'[^a-z0-9-]', '-', key)}"


def socket_of(paths: Paths, key: str) -> str:
    """Return the socket; its folder belongs to the stack's user alone."""
    return f"{_parent(paths)}/{key}.sock"


def _parent(paths: Paths) -> str:
    return f"{paths.run}/engine"


def _tmp(paths: Paths, key: str) -> str:
    # Short: the engine makes sockets with long names in it.
    return f"{paths.run}/work-{key}"


def _data(spec: EngineSpec) -> str:
    return f"{spec.volume}/{service_name(spec.key)}"


# --- scripts ----------------------------------------------------------------------------------------------------------------


def engine_service(paths: Paths, spec: EngineSpec, network: Network) -> _service.Service:
    """Return the process as the supervisor runs it. Raises NotBuilt for one with secrets, on GPUs, or in a container."""
    process = spec.process
    if unbuilt := _unbuilt(spec):
        raise NotBuilt(unbuilt)
    if process.secret_env:
        raise NotBuilt(f"{', '.join(process.secret_env)}: secrets in an engine's environment are not built yet")
    data, tmp, socket = _data(spec), _tmp(paths, spec.key), socket_of(paths, spec.key)
    tokens = _tokens(paths, spec)
    argv = tuple(_filled(part, tokens) for part in process.argv)
    return _service.Service(
        name=service_name(spec.key),
        argv=(spec.python, *argv[1:]) if spec.python and argv[0] == "python" else argv,
        env={name: _filled(value, tokens) for name, value in process.env.items()},
        user=spec.user,
        umask="077",
        cwd="/",
        isolate_network=network == "isolated",
        stop_signal=process.stop.signal,
        stop_timeout_s=process.stop.timeout_s,
        log_retention_days=spec.log_retention_days,
        pre_start=render(
            "engine_pre_start.sh.j2",
            weights=spec.weights,
            weights_digest=spec.weights_digest,
            folders=(_parent(paths), tmp, data),
            inner=(tokens["cache"], tokens["home"]),
            user=spec.user,
            socket=socket,
            tmp=tmp,
            files=engine_files(paths, spec),
        ),
    )


def engine_files(paths: Paths, spec: EngineSpec) -> dict[str, str]:
    """Return the files that the process reads, by their path on the machine."""
    tokens = _tokens(paths, spec)
    return {_filled(path, tokens): content for path, content in spec.process.files.items()}


def _tokens(paths: Paths, spec: EngineSpec) -> dict[str, str]:
    data = _data(spec)
    found = {"weights": spec.weights, "socket": socket_of(paths, spec.key), "cache": f"{data}/cache", "home": f"{data}/home"}
    return {**found, "tmp": _tmp(paths, spec.key), **({"head": spec.head} if spec.head else {})}


def start_script(paths: Paths, spec: EngineSpec, network: Network, *, stop_first: bool) -> str:
    """Return the script that brings the process to its definition and waits until it completes a prompt.

    It ends with a status of its own when the process dies, is too slow or does not answer; then the process is stopped.
    """
    service, kind = engine_service(paths, spec, network), spec.supervisor
    return render(
        "engine.sh.j2",
        install=_service.install_script(paths, service, kind),
        stop=_service.stop_script(paths, service.name, kind),
        log=_service.log_script(paths, service.name, 300, kind),
        probe=_service.probe(paths, service.name, kind),
        stop_first=stop_first,
        socket=socket_of(paths, spec.key),
        health=spec.process.health,
        died=_DIED,
        slow=_SLOW,
        mute=_MUTE,
        metric=_kv_cache.metric_script(socket_of(paths, spec.key), spec.process.kv_cache_metric),
    )


def probe_script(paths: Paths, spec: EngineSpec) -> str:
    """Return the fragment that prints the state of the process and what its health path answers."""
    digests = {
        network: _service.definition_sha256(paths, engine_service(paths, spec, network), spec.supervisor)
        for network in ("isolated", "loopback")
    }
    return render(
        "engine_probe.sh.j2",
        service=_service.probe(paths, service_name(spec.key), spec.supervisor),
        digests=digests,
        socket=socket_of(paths, spec.key),
        path=spec.process.health.path,
    )


def remove_script(paths: Paths, spec: EngineSpec) -> str:
    """Return the script that leaves nothing of the process."""
    return render(
        "engine_remove.sh.j2",
        remove=_service.remove_script(paths, service_name(spec.key), spec.supervisor),
        socket=socket_of(paths, spec.key),
        folders=(_tmp(paths, spec.key), _data(spec)),
        parent=_parent(paths),
    )


def _filled(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"\{(" + "|".join(tokens) + r")\}", lambda match: tokens[match[1]], text)


# --- judgements -------------------------------------------------------------------------------------------------------------


def _findings(facts: Mapping[str, str]) -> list[tuple[str, str]]:
    if facts.get("running") != "yes":
        return [("running", "the engine is not running")]
    found: list[tuple[str, str]] = []
    if facts.get("wanted") != "yes":
        found.append(("definition", "the definition of the engine's process was changed"))
    if facts.get("health") != "200":
        found.append(("health", "the engine runs but does not answer"))
    return found


def _path_problems(paths: Paths, key: str) -> tuple[Problem, ...]:
    longest = max(len(socket_of(paths, key)), len(_tmp(paths, key)) + 1 + _UUID_LENGTH)
    over = longest - MAX_SOCKET_LENGTH
    sentence = f"the name of the stack is {over} characters too long for the paths of its sockets"
    return (Problem(sentence, "give it a shorter name"),) if over > 0 else ()


def _memory_problems(available: int, needed: int) -> tuple[Problem, ...]:
    if available >= needed:
        return ()
    sentence = f"the engine needs {needed / 2**30:.1f} GiB of memory and {available / 2**30:.1f} GiB are available"
    return (Problem(sentence, "lower model.context or model.concurrency, take a smaller model, or end other programs"),)
