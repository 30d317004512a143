"""Plans made by hand for the views."""

from __future__ import annotations

from dataclasses import replace

from llmdeploy.change import Change, Drift, FieldChange
from llmdeploy.identity import Identity
from llmdeploy.plan import Plan
from llmdeploy.policy import Finding
from llmdeploy.prices import CostLine
from llmdeploy.resource import UNKNOWN, Group, Ref, Resource
from llmdeploy.traits import Traits

CREATED_AT = "2026-01-02T03:04:05+00:00"
LINEAGE = "0123456789abcdef0123456789abcdef"


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
        cost=(CostLine("g6e.xlarge", 2, 3.5, "catalogue"), CostLine("traffic", 1, None, "")),
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


ALL = (fresh, changed, destroyed, eventful, drifted)
"""Every kind of plan."""
