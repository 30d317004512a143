"""`host_gateway` without a machine: its plan, its scripts, what it makes of a probe."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmdeploy.sdk import UNKNOWN, DataFlow, Identity, NotBuilt, Prior, Ref
from llmdeploy_host import _gateway_scripts
from llmdeploy_host._connection import Connection, Paths
from llmdeploy_host._gateway_config import parse_keys_map
from llmdeploy_host._gateway_files import gateway_archive, gateway_config, gateway_files
from llmdeploy_host._gateway_spec import FILES as FILE_NAMES
from llmdeploy_host._gateway_spec import LOG_FIELDS, HostedFallback
from llmdeploy_host._host_type import locked
from llmdeploy_host.api_key import Credential
from llmdeploy_host.host_gateway import RESOURCE, GatewayKey, HostGatewayOutputs, HostGatewaySpec

from ...support import require_tool
from .keys_lab import LINEAGE, context, prior_of, run_in

ADDRESS = "host_gateway.local"
IDENTITY = Identity("support-chat", LINEAGE)
PATHS = Paths("support-chat-1a2b3c4d")
FILES = {name: name[0] * 64 for name in FILE_NAMES}
OUTPUTS = HostGatewayOutputs(port=8443, service="gateway", log=f"{PATHS.log}/gateway/current", files=FILES)
WHOLE = {
    **FILES,
    "folder": "yes",
    "running": "yes",
    "answers": "yes",
    "loaded": "yes",
    "keys": "same",
    "definition": "d",
    "wanted_definition": "d",
}


def credential(key_id: str, **changes: Any) -> Credential:
    values = {"key_id": key_id, "sha256": key_id[0] * 64, "not_before": 100, "not_after": 200, "location": "/here/a.key"}
    return Credential.model_validate(values | changes)


def spec(**changes: Any) -> HostGatewaySpec:
    key = GatewayKey(name="a", principal="label:a", requests_per_minute=60, concurrency=4, credentials=(credential("aaaaaaaa"),))
    values: dict[str, Any] = {
        "host": Connection(),
        "engine_sockets": (f"{PATHS.run}/engine/local.sock",),
        "keys": (key,),
        "chain_pem": "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n",
        "key_source": "custody:certificate.local.key",
        "port": 8443,
        "served_name": "tiny",
        "user": PATHS.user,
        "supervisor": "s6",
    }
    return HostGatewaySpec(**(values | changes))


def with_keys(*credentials: Credential) -> HostGatewaySpec:
    return spec(keys=(spec().keys[0].model_copy(update={"credentials": credentials}),))


def planned(after: HostGatewaySpec, prior: Prior | None = None) -> tuple[str, str, tuple[str, ...]]:
    plan = RESOURCE.plan(prior or prior_of(ADDRESS, spec(), OUTPUTS), after.tree())
    return plan.action, plan.reason, plan.details


def test_the_same_wish_is_no_change() -> None:
    assert planned(spec()) == ("no-op", "", ())


def test_where_a_key_was_handed_over_is_no_change() -> None:
    assert planned(with_keys(credential("aaaaaaaa", location="/elsewhere/a.key")))[0] == "no-op"


@pytest.mark.parametrize(
    ("after", "detail"),
    [
        (
            with_keys(credential("aaaaaaaa", revoked=True)),
            "the keys change in the running gateway: no reload, open streams go on",
        ),
        (spec(keys=()), "the keys change in the running gateway: no reload, open streams go on"),
        (spec(served_name="other"), "what differs is put right by a seamless reload: open streams go on"),
        (spec(keys=(), port=1), "what differs is put right by a seamless reload: open streams go on"),
        (spec(log_retention_days=1), "the gateway starts anew: open streams end"),
    ],
)
def test_an_update_says_what_happens_to_open_streams(after: HostGatewaySpec, detail: str) -> None:
    assert planned(after) == ("update", "", (detail,))


def test_another_supervisor_is_a_replacement() -> None:
    assert planned(spec(supervisor="systemd"))[:2] == ("replace", "it moves to another process supervisor")


def test_what_is_predicted_is_what_create_returns() -> None:
    values = spec().tree()
    assert RESOURCE.predict(values, IDENTITY) == {name: OUTPUTS.tree()[name] for name in ("port", "service", "log")}
    assert RESOURCE.predict(values, Identity("support-chat", None)) == {"port": 8443, "service": "gateway"}
    assert RESOURCE.predict(values | {"supervisor": UNKNOWN}, IDENTITY) == {"port": 8443, "service": "gateway"}


def test_references_stay_in_the_spec() -> None:
    tree = spec().tree()
    tree["keys"][0]["credentials"] = Ref("api_key.a", "credentials")
    tree["engine_sockets"] = (Ref("host_engine.local", "socket"),)
    again = HostGatewaySpec.model_validate(tree).tree()
    assert again["keys"][0]["credentials"] == Ref("api_key.a", "credentials")
    assert again["engine_sockets"] == (Ref("host_engine.local", "socket"),)


@pytest.mark.parametrize(("address", "exposure"), [("127.0.0.1", "host"), ("::1", "host"), ("0.0.0.0", "public")])  # noqa: S104 - asked for
def test_traits_tell_who_reaches_it(address: str, exposure: str) -> None:
    traits = RESOURCE.traits(spec(address=address, log_retention_days=7).tree())
    assert (traits.exposure, traits.in_transit, traits.retention_days) == (exposure, "encrypted", 7)
    assert RESOURCE.traits(spec(address=address, behind="aws_lb.front").tree()).exposure == "private"


def test_traits_tell_what_it_guards_and_keeps() -> None:
    traits = RESOURCE.traits(spec().tree())
    assert (traits.tls_min, traits.authenticated, traits.stored_keys, traits.private) == ("1.2", True, "hashes", True)
    assert (traits.log_fields, traits.content_found, traits.data_flows) == (LOG_FIELDS, (), ())
    assert traits.guards == ("no-query", "own-request-ids")
    assert RESOURCE.traits(spec(generic_errors=True).tree()).guards == ("generic-errors", "no-query", "own-request-ids")


def test_generic_errors_are_a_reload_and_an_older_state_has_none() -> None:
    assert planned(spec(generic_errors=True))[0] == "update"
    older = prior_of(ADDRESS, spec(), OUTPUTS)
    kept = {name: value for name, value in older.spec.items() if name not in ("generic_errors", "fallback")}
    assert planned(spec(), Prior(ADDRESS, ADDRESS, kept, older.outputs))[0] == "no-op"


FALLBACK = HostedFallback(base_url="https://API.example.com:8443/v1", model="big", api_key="env:HOSTED_KEY")


@pytest.mark.parametrize(
    ("allowed", "who"),
    [(True, "for the keys that allow it (a)"), (False, "for no key: none of them sets allow_fallback")],
)
def test_a_fallback_is_planned_and_its_prompts_leave(allowed: bool, who: str) -> None:
    keys = (spec().keys[0].model_copy(update={"allow_fallback": allowed}),)
    values = spec(fallback=FALLBACK, keys=keys).tree()
    assert RESOURCE.plan(None, values).details == (
        f"sends requests that no replica can take to api.example.com (model big), {who}",
    )
    assert RESOURCE.traits(values).data_flows == (
        DataFlow(what="prompts that no replica can take", to="api.example.com", carries="prompts"),
    )


def test_a_fallback_is_not_made(tmp_path: Path) -> None:
    wished = spec(fallback=FALLBACK)
    (problem,) = RESOURCE.preflight(run_in(tmp_path), wished.tree(), None)
    assert problem.sentence == "a hosted fallback can be planned and not made by this version"
    with pytest.raises(NotBuilt, match="a hosted fallback can be planned"):
        RESOURCE.create(context(run_in(tmp_path), ADDRESS), wished)


@pytest.mark.parametrize(
    "base_url", ["api.example.com/v1", "ftp://example.com", "https://", "https://u:p@example.com", "https://e/?q"]
)
def test_a_fallback_needs_the_address_of_a_host(base_url: str) -> None:
    with pytest.raises(ValidationError):
        HostedFallback(base_url=base_url, model="big", api_key="env:HOSTED_KEY")


# --- what it renders --------------------------------------------------------------------------------------------------------


def test_the_key_map_holds_what_is_not_revoked() -> None:
    wished = with_keys(credential("aaaaaaaa"), credential("bbbbbbbb", revoked=True), credential("cccccccc", not_after=150))
    config = gateway_config(PATHS, wished, (2, 6))
    records = parse_keys_map(gateway_files(config, wished, b"key")["keys.map"].decode())
    assert [(record.key_id, record.not_before, record.not_after) for record in records] == [
        ("aaaaaaaa", 100, 200),
        ("cccccccc", 100, 150),
    ]
    assert {record.principal for record in records} == {"label:a"}


def test_every_path_of_the_configuration_belongs_to_the_stack() -> None:
    text = gateway_files(gateway_config(PATHS, spec(), (2, 6)), spec(), b"key")["haproxy.cfg"].decode()
    paths = [word for word in text.replace("unix@", " ").split() if word.startswith(("/var/", "/run/"))]
    assert paths
    assert all(path.startswith((PATHS.lib, PATHS.run)) for path in paths)


@pytest.mark.parametrize("name", ["a", "a" * 40])
def test_the_sockets_paths_are_short_enough_for_any_stack_name(name: str) -> None:
    paths = Paths(f"{name}-1a2b3c4d")
    wished = spec(engine_sockets=(f"{paths.run}/engine/local.sock",))
    assert gateway_config(paths, wished, (2, 6)).admin_socket.startswith(paths.run)


def test_no_header_for_stickiness_is_a_header_that_nobody_sends() -> None:
    assert gateway_config(PATHS, spec(sticky=""), (2, 6)).sticky_header != "x-session-id"


def scripts(kind: str) -> dict[str, str]:
    wished = spec(supervisor=kind)
    return {
        "bring": locked(PATHS, ADDRESS, _gateway_scripts.gateway_script(PATHS, wished)),
        "remove": locked(PATHS, ADDRESS, _gateway_scripts.remove_script(PATHS, kind)),
        "probe": _gateway_scripts.probe_script(PATHS, wished),
        "ask": _gateway_scripts.ask_script(PATHS),
        "pre_start": _gateway_scripts.gateway_service(PATHS, wished).pre_start,
        "port": _gateway_scripts.port_script(PATHS, 8443),
        "port of a new stack": _gateway_scripts.port_script(None, 80),
    }


@pytest.mark.parametrize("kind", ["s6", "systemd"])
def test_shellcheck_finds_nothing(kind: str) -> None:
    require_tool("shellcheck")
    for name, script in scripts(kind).items():
        result = subprocess.run(
            ["shellcheck", "-s", "sh", "-"], input=script, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.stdout == "", f"{name}\n{result.stdout}"


def test_files_travel_by_standard_input_only() -> None:
    wished = spec()
    config = gateway_config(PATHS, wished, (2, 6))
    files = gateway_files(config, wished, b"PRIVATE CANARY\n")
    archive = gateway_archive(config, files)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {member.name: member.mode for member in tar} == dict.fromkeys((*FILE_NAMES, "commands"), 0o600)
        commands = tar.extractfile("commands")
        assert commands is not None
        assert b"CANARY" not in commands.read()
    assert "CANARY" in files["tls.pem"].decode()
    texts = " ".join(scripts("s6").values())
    assert "CANARY" not in texts
    assert "a" * 64 not in texts


# --- what it makes of a probe -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "sentences"),
    [
        ({}, []),
        ({"haproxy.cfg": "x"}, ["gateway: haproxy.cfg was changed by hand"]),
        ({"keys.map": None}, ["gateway: keys.map is missing"]),
        ({"tls.pem": "x", "usage.lua": "y"}, ["gateway: usage.lua was changed by hand", "gateway: tls.pem was changed by hand"]),
        ({"running": "no"}, ["gateway: the process is not running"]),
        ({"answers": None, "keys": None}, ["gateway: the process does not answer"]),
        ({"keys": "strange"}, ["gateway: a key is live that is not in its keys.map"]),
        ({"keys": None}, ["gateway: a key of keys.map is not live, or with other limits"]),
        ({"loaded": None}, ["gateway: the running process has not loaded its configuration"]),
        ({"definition": "e"}, ["gateway: its service is defined otherwise"]),
    ],
)
def test_drift_is_told_in_sentences(facts: dict[str, str | None], sentences: list[str]) -> None:
    seen = {name: value for name, value in {**WHOLE, **facts}.items() if value is not None}
    result = RESOURCE.observe(prior_of(ADDRESS, spec(), OUTPUTS), seen)
    assert result.exists
    assert [drift.sentence for drift in result.drift] == sentences


def test_it_is_gone_when_neither_files_nor_process_are_there() -> None:
    assert not RESOURCE.observe(prior_of(ADDRESS, spec(), OUTPUTS), {"running": "no"}).exists


def test_a_creation_that_goes_on_has_no_drift() -> None:
    half = Prior(ADDRESS, "", json.loads(json.dumps(spec().tree())), {}, status="creating")
    assert RESOURCE.observe(half, {"running": "no"}).drift == ()


def test_a_machine_that_is_not_known_yet_has_no_preflight() -> None:
    assert RESOURCE.preflight(run_in(Path("/nonexistent")), spec().tree() | {"host": UNKNOWN}, None) == ()
