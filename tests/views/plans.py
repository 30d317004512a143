"""Plans made by hand for the views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from llmdeploy.catalog import HostedModel
from llmdeploy.change import Change, Drift, FieldChange
from llmdeploy.cost import Accounts, Fleet, document, with_prior
from llmdeploy.identity import Identity
from llmdeploy.plan import Plan
from llmdeploy.policy import Finding
from llmdeploy.prices import CostLine
from llmdeploy.resource import UNKNOWN, Group, Ref, Resource, Tree
from llmdeploy.traits import Traits

CREATED_AT = "2026-01-02T03:04:05+00:00"
LINEAGE = "0123456789abcdef0123456789abcdef"


def judged() -> Plan:
    """A profile forces, refuses, wants a statement and warns."""
    volume = Change(
        "host_volume.local", "host_volume", "local", "create", after={}, traits=Traits(at_rest="plain"), group="local"
    )
    cited = "hipaa: 45 CFR 164.312(a)(2)(iv)"
    standings = ("kept", "kept", "refused", "to_state", "told", "stated", "after_apply", "not_judged", "not_applicable")
    return replace(
        _plan((volume,)),
        compliance={
            "profiles": ["hipaa", "pci-dss"],
            "residency": "eu",
            "log_days": {"least": 365, "most": None},
            "forced": [{"control": "RET-02", "path": "logs.retention_days", "value": 365}],
            "controls": [
                {"id": f"AAA-0{n}", "title": "A title", "profiles": ["hipaa"], "strict": True, "standing": standing}
                for n, standing in enumerate(standings)
            ],
        },
        findings=(
            Finding(
                "AAA-02", "fail", "stores data unencrypted", "host_volume.local", cited, "storage.encryption",
                "storage: {encryption: auto}", "stack.yaml:6:11",
            ),
            Finding("AAA-03", "acknowledge", "nobody states an agreement", "", cited, "compliance.attest", "attest: {baa: true}"),
            Finding("AAA-04", "warn", "keeps the weights", "host_volume.local", cited, "storage.on_destroy", "on_destroy: erase"),
        ),
    )  # fmt: skip


def _plan(changes: tuple[Change, ...]) -> Plan:
    return Plan(
        stack="demo",
        mode="apply",
        identity=Identity("demo", LINEAGE),
        serial=3,
        created_at=CREATED_AT,
        stack_sha256="a" * 64,
        lock_sha256="",
        changes=changes,
        prior_outputs={"endpoint": "https://localhost:8443", "user": "root"},
    )


def fresh() -> Plan:
    """Nothing is there yet."""
    host = {"transport": "local", "address": "localhost"}
    files = [{"path": f"model-{i}", "n": i} for i in range(6)]
    key = Change("api_key.me", "api_key", "local", "create", after={"name": "me", "limit": 60, "note": ""}, group="stack")
    machine = Change("host.local", "host", "local", "create", after={"host": host}, outputs={"connection": host}, group="local")
    weights = Change(
        "host_weights.local",
        "host_weights",
        "local",
        "create",
        after={
            "host": host,
            "user": UNKNOWN,
            "manifest": {"kind": "hub", "files": files},
        },
        details=("fetches 6 files",),
        traits=Traits(at_rest="encrypted", notes=("the key lies beside the data",)),
        group="local",
        dependencies=("host.local",),
        outputs={"path": UNKNOWN},
    )
    engine = Change(
        "host_engine.local",
        "host_engine",
        "local",
        "create",
        "goes on where it was interrupted",
        after={"weights": UNKNOWN, "requirements": "torch==1\n" * 80, "argv": ["vllm", "serve"] + ["--flag"] * 30},
        resume=True,
        group="local",
        dependencies=("host_weights.local",),
        outputs={"socket": UNKNOWN},
    )
    resources = (
        Resource(
            "host_weights.local",
            "host_weights",
            "local",
            {"host": Ref("host.local", "connection"), "user": Ref("host.local", "u")},
        ),
        Resource("host_engine.local", "host_engine", "local", {"weights": Ref("host_weights.local", "path")}),
    )
    return replace(
        _plan((key, machine, weights, engine)),
        identity=Identity("demo", None),
        serial=0,
        resources=resources,
        outputs={"endpoint": "https://localhost:8443", "keys": {"me": {"file": Ref("api_key.me", "file")}}},
        summary={"Sizing": ("weights: 4.9 MiB", "memory: 1.8 GiB"), "Compliance": ("no profile",)},
        cost=(CostLine("g6e.xlarge", 2, "hour", 1.75, source="catalogue"), CostLine("traffic", 100, "GB", None, "month")),
        warnings=("the key lies beside the data", "no `keys:` in the stack file"),
    )


def changed() -> Plan:
    """Everything else that can happen to a resource."""
    same = Change("host.local", "host", "local", "no-op", before={"a": 1}, after={"a": 1}, group="local", outputs={"u": "root"})
    drifted = Change(
        "host_volume.local",
        "host_volume",
        "local",
        "update",
        "volume: it is not mounted; volume: its folder is open",
        before={"size": 1},
        after={"size": 1},
        drift=(Drift("mount", "volume: it is not mounted"), Drift("mode", "volume: its folder is open")),
        group="local",
    )
    updated = Change(
        "host_gateway.local",
        "host_gateway",
        "local",
        "update",
        "",
        before={"port": 8443, "keys": [{"name": "a"}]},
        after={"port": 9443, "keys": UNKNOWN},
        fields=(FieldChange("port", 8443, 9443), FieldChange("keys", [{"name": "a"}], UNKNOWN)),
        details=("open streams go on",),
        group="local",
    )
    replaced = Change(
        "host_engine.local",
        "host_engine",
        "local",
        "replace",
        "an engine reads its flags once",
        before={"context": 4096, "runtime": {"version": "1"}},
        after={"context": 8192, "runtime": {"version": "2"}},
        fields=(FieldChange("context", 4096, 8192, replaces=True), FieldChange("runtime.version", "1", "2")),
        group="local",
        generation=2,
    )
    deleted = Change("api_key.old", "api_key", "local", "delete", before={"name": "old"}, traits=Traits(custody="operator-file"))
    gone = Change("host_weights.local", "host_weights", "local", "delete", "it is gone already", before={})
    return replace(
        _plan((same, drifted, updated, replaced, deleted, gone)),
        resources=(Resource("host.local", "host", "local", {}, group="local"),),
        outputs={"endpoint": "https://localhost:9443", "user": Ref("host.local", "u")},
        findings=(Finding("LOG-01", "warn", "keeps no log", "host_gateway.local", "gdpr", "logs", "logs: {}"),),
    )


def unchanged() -> Plan:
    """Nothing to do."""
    return replace(_plan((changed().changes[0],)), outputs={"endpoint": "https://localhost:9443"}, warnings=("said before",))


def destroyed() -> Plan:
    """Everything goes but what is kept."""
    return replace(_plan(changed().changes[4:]), mode="destroy", kept=("host_volume.local", "host.local"))


def eventful() -> Plan:
    """What only happens to a stack that lives: doubt, finds, leftovers, rollouts, and a part of the whole."""
    group = Group("gateways", max_unavailable=1, gate="probe", enter="undrain", exit="drain")
    doubtful = Change("thing.a", "thing", "cloud", "create", after={"n": 1}, resume=True, in_doubt=True, group="a")
    adopted = Change(
        "thing.b",
        "thing",
        "cloud",
        "adopt",
        "it carries the tags of this stack and was not in the state",
        before={"n": 1},
        after={"n": 1},
        found="i-0123",
        group="a",
    )
    left = Change("thing.c", "thing", "cloud", "no-op", before={"n": 1}, after={"n": 1}, deposed=(1, 2), generation=3, group="b")
    first = Change(
        "gateway.a",
        "gateway",
        "cloud",
        "replace",
        "a gateway cannot be renamed",
        before={"name": "x"},
        after={"name": "y"},
        fields=(FieldChange("name", "x", "y", replaces=True),),
        create_first=True,
        deposed=(4,),
        generation=6,
        rollout=group,
        group="b",
    )
    next_one = replace(first, address="gateway.b", action="update", reason="", create_first=False, deposed=(), rollout=Group("g"))
    return replace(
        _plan((doubtful, adopted, left, first, next_one)),
        outputs={"endpoint": "https://localhost:8443", "user": "root"},
        variables={"replicas": 2},
        targets=("gateway.a", "gateway.b"),
        account={"cloud.account": "111122223333", "cloud.region": "eu-central-1"},
    )


def drifted() -> Plan:
    """A look at what differs."""
    gone = Change("thing.a", "thing", "cloud", "no-op", before={"n": 1}, after={"n": 1}, drift=(Drift("", "it is gone"),))
    same = Change("thing.b", "thing", "cloud", "no-op", before={"n": 1}, after={"n": 1})
    other = replace(same, address="thing.c", drift=(Drift("n", "c: somebody wrote into it"),))
    return replace(_plan((gone, same, other)), mode="refresh-only")


def priced() -> Plan:
    """One machine more than there is, with its size, its bill, and what hosted APIs take."""
    economics = with_prior(document(ACCOUNTS), PRIOR_COST)
    return replace(fresh(), cost=ACCOUNTS.lines, prior_cost=PRIOR_COST, sizing=SIZING, economics=economics, warnings=())


def hosted(name: str, input: float, cached: float | None, output: float, ends: str = "") -> HostedModel:
    """Return a hosted model; prices in USD per million tokens."""
    return HostedModel(name, "somebody", input, cached, output, "a price list", "2026-11-20", "seen", ends)


def machine_line(count: int) -> CostLine:
    """Return the line of `count` rented machines."""
    return CostLine("g6e.12xlarge", count, "hour", 10.49264, "hour", "price list, 2026-07-20", "seen", "on demand")


_DISK = CostLine("gp3 disk", 1200, "GB-month", 0.08, "month", "price list, 2026-07-20", "derived")
_FRONT = CostLine("network load balancer", 1, "hour", 0.0225, "hour", "from memory", "unverified")
_SECRETS = CostLine("secret", 3, "secret", 0.40, "month", "from memory", "unverified")
_KEY = CostLine("encryption key", 1, "key", 1.0, "month", "from memory", "unverified")
_LOGS = CostLine("log storage", 0.5, "GB-month", 0.03, "month", "from memory", "unverified", "2 KB per request")
_WEIGHTS = CostLine("weights over the NAT gateway", 282, "GB", 0.045, "once", "from memory", "unverified")
_TRAFFIC = CostLine("traffic between zones", 120, "GB", None, "month", "no price zone.gb")
PRIOR_COST = (machine_line(1), _FRONT)
ACCOUNTS = Accounts(
    lines=(machine_line(2), _DISK, _FRONT, _SECRETS, _KEY, _LOGS, _WEIGHTS, _TRAFFIC),
    machines=(machine_line(2), _DISK, _WEIGHTS),
    shared=(_FRONT, _SECRETS, _KEY),
    fleet=Fleet(replicas=2, machines=2, prefill_tokens_per_s=9_000, decode_tokens_per_s=900),
    against=(
        hosted("claude-sonnet-4.6", 3.0, 0.3, 15.0),
        hosted("gpt-5", 1.25, 0.125, 10.0, "2026-12-11"),
        hosted("llama-3.3-70b-turbo", 1.04, None, 1.04),
    ),
    stale=("prices of machines are of 2026-07-20, 166 days old",),
)
_RANGE = {"planning": 900.0, "bound": 1400.0}
SIZING: Mapping[str, Tree] = {
    "fits": True,
    "reason": "",
    "model": {
        "id": "llama-3.3-70b-instruct",
        "repository": "meta-llama/Llama-3.3-70B-Instruct",
        "license": "llama3.3",
        "commercial": True,
        "gated": True,
        "parameters": 70_553_706_496,
        "active_parameters": 70_553_706_496,
        "confidence": "seen",
    },
    "quantization": {
        "name": "bf16",
        "made": "published",
        "repository": "meta-llama/Llama-3.3-70B-Instruct",
        "compute": "bf16",
        "native": True,
        "notes": [],
    },
    "gpu": "l40s",
    "machine": "g6e.12xlarge",
    "machines": 2,
    "replicas": 2,
    "machines_per_replica": 1,
    "gpus_per_replica": 4,
    "tensor_parallel": 4,
    "pipeline_parallel": 1,
    "context": 8192,
    "concurrency": 8,
    "batched_tokens": 2048,
    "memory": {
        "total_bytes": 47_999_614_976,
        "usable_bytes": 44_159_645_777,
        "weights_bytes": 35_276_853_248,
        "kv_cache_bytes": 6_200_000_512,
        "kv_needed_bytes": 5_368_709_120,
        "overhead_bytes": 2_682_792_017,
        "free_bytes": 0,
    },
    "kv_cache": {"tokens": 75_680, "requests": 9, "block_tokens": 16, "token_bytes": 327_680},
    "disk_bytes": 161_107_412_992,
    "throughput": {
        "prediction": True,
        "decode_tokens_per_s": _RANGE,
        "request_tokens_per_s": {"planning": 12.0, "bound": 19.0},
        "prefill_tokens_per_s": {"planning": 9000.0, "bound": 18000.0},
        "time_to_first_token_s": {"planning": 0.9, "bound": 0.45},
    },
    "explanation": ["weights: 131.4 GiB over 4 GPUs"],
    "candidates": [
        {
            "machine": "g6e.12xlarge",
            "gpu": "l40s",
            "gpus": 4,
            "machines": 1,
            "tensor_parallel": 4,
            "pipeline_parallel": 1,
            "quantization": "bf16",
            "fits": True,
            "reason": "",
            "usd_per_hour": 10.49264,
            "headroom_bytes": 831_291_392,
            "kv_tokens": 75_680,
            "requests": 9,
            "decode_tokens_per_s": _RANGE,
        },
        {
            "machine": "g6.48xlarge",
            "gpu": "l4",
            "gpus": 8,
            "machines": 1,
            "tensor_parallel": 8,
            "pipeline_parallel": 1,
            "quantization": "bf16",
            "fits": False,
            "reason": "KV cache: 1.2 GiB are left on each GPU, 2.5 GiB are needed",
            "usd_per_hour": None,
            "headroom_bytes": -1_395_864_371,
            "kv_tokens": 0,
            "requests": 0,
            "decode_tokens_per_s": None,
        },
    ],
}
"""What `size` says of that plan."""

ALL = (fresh, changed, destroyed, eventful, drifted, priced, judged)
"""Every kind of plan."""
