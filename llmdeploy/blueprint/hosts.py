"""What the core puts on the machines of a stack: host resources, the same on every kind of machine, and what clients see."""

from __future__ import annotations

from dataclasses import asdict

from ..layout import Fragment, KeyRequest, LayoutRequest, Machine
from ..machine import Slot
from ..resource import UNKNOWN, Ref, Resource, Tree

_PACKAGES = ("ca-certificates", "curl", "haproxy", "iproute2")
_VENV_PACKAGES = ("python3-venv", "s6")
_VOLUME_PACKAGES = {"gocryptfs": ("fuse3", "gocryptfs"), "luks2": ("cryptsetup",), "none": ()}
_TOOLKIT = "nvidia-container-toolkit"
_SWITCHED_GPUS = 8
_CA_DAYS = 3650
_CERTIFICATE_DAYS = 180


class Hosts:
    """Host resources of one stack, the same on every kind of machine."""

    def __init__(self, request: LayoutRequest, provider: str, fragment: Fragment) -> None:
        self._request = request
        self._provider = provider
        self._fragment = fragment
        front: Tree = Ref(fragment.entry, "dns_name") if fragment.entry else fragment.front
        self._names: tuple[Tree, ...] = (request.gateway.domain or front,)
        self._local = not fragment.entry and fragment.front == "localhost"

    def resources(self) -> list[Resource]:
        """Return everything the core adds."""
        own = [key for key in self._request.keys if key.name not in self._fragment.keys]
        found = [self._resource("api_key", key.name, self._key(key), "keys") for key in own]
        if self._request.gateway.tls_cert is None:
            name = f"llmdeploy {self._request.stack}"
            values: dict[str, Tree] = {"common_name": name, "days": _CA_DAYS, "kms_key": self._fragment.kms_key}
            found.append(self._resource("tls_ca", "stack", values, "gateway"))
        for machine in self._fragment.machines:
            found += self._machine(machine)
        return found

    def outputs(self) -> dict[str, Tree]:
        """Return what a client needs: endpoint, base_url, model, ca_file, the file or secret of each key."""
        gateway, entry = self._request.gateway, self._fragment.entry
        keys = {key.name: self._key_output(key.name) for key in self._request.keys}
        ca: dict[str, Tree] = {} if gateway.tls_cert else {"ca_file": Ref("tls_ca.stack", "ca_file")}
        if entry and not gateway.domain:
            where: dict[str, Tree] = {"endpoint": Ref(entry, "endpoint"), "base_url": Ref(entry, "base_url")}
        else:
            endpoint = f"https://{_bracketed(str(self._names[0]))}" + ("" if gateway.port == 443 else f":{gateway.port}")
            where = {"endpoint": endpoint, "base_url": f"{endpoint}/v1"}
        return {**where, "model": self._request.serving.served_name, **ca, "keys": keys}

    def _key_output(self, name: str) -> dict[str, Tree]:
        made = self._fragment.keys.get(name)
        return {"secret": Ref(made, "location")} if made else {"file": Ref(f"api_key.{name}", "file")}

    def _resource(
        self, kind: str, key: str, values: dict[str, Tree], path: str, group: str = "stack", after: tuple[str, ...] = ()
    ) -> Resource:
        return Resource(f"{kind}.{key}", kind, self._provider, values, frozenset(after), group, path)

    def _key(self, key: KeyRequest) -> dict[str, Tree]:
        return {
            "name": key.name,
            "principal": key.principal,
            "requests_per_minute": key.requests_per_minute,
            "concurrency": key.concurrency,
            "max_age_days": key.max_age_days,
            "allow_fallback": key.allow_fallback,
        }

    # --- one machine ---------------------------------------------------------------------------------------------------------

    def _machine(self, machine: Machine) -> list[Resource]:
        found = [*self._system(machine), *self._storage(machine), self._runtime(machine)]
        found += [self._engine(machine, slot) for slot in machine.slots]
        return [*found, *(self._gateway(machine) if _answers(machine) else ())]

    @property
    def _container(self) -> bool:
        return self._request.serving.runtime == "container"

    @property
    def _encryption(self) -> str:
        wanted = self._request.storage.encryption
        return self._fragment.encryption if wanted == "auto" else wanted

    def _system(self, machine: Machine) -> list[Resource]:
        """Return what everything else on the machine stands on.

        The driver comes first, because it may restart the machine; hardening before anything that holds data.
        """
        key, host = machine.key, machine.host
        packages, driver = f"host_packages.{key}", (f"host_gpu_driver.{key}",) if _has_gpus(machine) else ()
        wanted = (*_PACKAGES, *_VOLUME_PACKAGES[self._encryption], *(() if self._container else _VENV_PACKAGES))
        found = [
            self._resource("host_packages", key, {"host": host, "packages": tuple(sorted(wanted))}, "provider", key, driver),
            self._resource("host_home", key, {"host": host, "name": self._request.stack}, "name", key, driver),
            self._resource(
                "host_supervisor", key, {"host": host, "home": Ref(f"host_home.{key}", "lib")}, "provider", key, (packages,)
            ),
        ]
        if driver:
            found.append(self._driver(machine))
        if self._fragment.hardened:
            found.append(self._resource("host_hardening", key, self._hardening(machine), "provider", key, (packages,)))
        if self._container:
            values: dict[str, Tree] = {"host": host, "toolkit": _TOOLKIT if driver else None}
            found.append(self._resource("host_container_runtime", key, values, "engine", key, self._ground(machine)))
        return found

    def _ground(self, machine: Machine) -> tuple[str, ...]:
        """Return what must be there before anything of the stack's own is: hardened machines are hardened first."""
        return (f"{'host_hardening' if self._fragment.hardened else 'host_packages'}.{machine.key}",)

    def _hardening(self, machine: Machine) -> dict[str, Tree]:
        values: dict[str, Tree] = {"host": machine.host}
        if _answers(machine):
            values["allowed_ports"] = (self._request.gateway.port,)
            if (port := self._request.gateway.peer_port) and (peers := self._peers(machine)):
                values |= {"private_ports": (port,), "peers": peers}
        if trusted := self._partners(machine):
            values["trusted"] = trusted
        if self._request.policy.strict("NET-03"):
            values["egress"] = "listed"
        return values

    def _driver(self, machine: Machine) -> Resource:
        kind = self._request.placement.type
        # Machines whose GPUs hang on an NVSwitch need NVIDIA's fabric manager in the driver's very version.
        switched = kind is not None and kind.gpus >= _SWITCHED_GPUS and kind.gpu is not None and kind.gpu.link > 0
        values: dict[str, Tree] = {"host": machine.host, "fabric_manager": switched}
        return self._resource("host_gpu_driver", machine.key, values, "hardware", machine.key)

    def _storage(self, machine: Machine) -> list[Resource]:
        request, key, host = self._request, machine.key, machine.host
        home, ground = f"host_home.{key}", self._ground(machine)
        volume: dict[str, Tree] = {
            "host": host,
            "encryption": self._encryption,
            "key": request.storage.key,
            "home": Ref(home, "lib"),
            "on_destroy": "keep" if request.storage.on_destroy == "keep" else None,
        }
        if self._encryption == "luks2":
            wrapped = None if request.storage.key else self._fragment.kms_key
            volume |= {
                "device": machine.device or request.storage.device,
                "erase": request.storage.erase,
                "unlock": self._unlock(wrapped is not None),
                "kms_key": wrapped,
            }
        manifest = request.serving.manifest
        weights: dict[str, Tree] = {
            "host": host,
            "volume": Ref(f"host_volume.{key}", "path"),
            "user": Ref(home, "user"),
            "manifest": UNKNOWN if manifest is None else manifest.model_dump(mode="json"),
            "token": request.serving.token,
            "pinned": request.serving.pinned,
        }
        if manifest is None:
            weights["repository"] = request.serving.repository
        return [
            self._resource("host_volume", key, volume, "storage", key, ground),
            self._resource("host_weights", key, weights, "model", key, ground),
        ]

    def _unlock(self, wrapped: bool) -> str | None:
        """Return what opens the volume after a restart; rented machines have no TPM that `auto` could take."""
        wanted = self._request.storage.unlock
        if wanted != "auto" or self._fragment.kms_key is None:
            return wanted
        return "kms" if wrapped else "operator"

    def _runtime(self, machine: Machine) -> Resource:
        serving, key = self._request.serving, machine.key
        values: dict[str, Tree] = {"host": machine.host, "engine": serving.engine, "version": serving.version}
        if self._container:
            values |= {"kind": "container", "image": serving.image}
            return self._resource("host_engine_runtime", key, values, "engine", key, (f"host_container_runtime.{key}",))
        values["requirements"] = serving.requirements
        return self._resource("host_engine_runtime", key, values, "engine", key, self._ground(machine))

    def _engine(self, machine: Machine, slot: Slot) -> Resource:
        serving, key, runtime = self._request.serving, machine.key, f"host_engine_runtime.{machine.key}"
        process = serving.workers[slot.rank - 1] if slot.rank else serving.process
        values: dict[str, Tree] = {
            "host": machine.host,
            "key": str(slot.replica),
            "engine": serving.engine,
            "version": serving.version,
            "runtime_digest": Ref(runtime, "digest"),
            "weights": Ref(f"host_weights.{key}", "path"),
            "weights_digest": Ref(f"host_weights.{key}", "digest"),
            "volume": Ref(f"host_volume.{key}", "path"),
            "process": process.model_dump(mode="json"),
            "user": Ref(f"host_home.{key}", "user"),
            "supervisor": Ref(f"host_supervisor.{key}", "kind"),
            "log_retention_days": self._request.gateway.log_retention_days,
        }
        if self._container:
            values |= {"image": Ref(runtime, "image")}
        else:
            values["python"] = Ref(runtime, "python")
        if slot.gpus:
            values["gpu_indices"] = slot.gpus
        if self._request.machines_per_replica > 1:
            values["head"] = self._head(slot)
        return self._resource("host_engine", _engine_key(machine, slot), values, "engine", key)

    def _head(self, slot: Slot) -> Tree:
        heads = (m for m in self._fragment.machines if any((s.replica, s.rank) == (slot.replica, 0) for s in m.slots))
        return next(heads).address

    # --- what clients see ----------------------------------------------------------------------------------------------------

    def _gateway(self, machine: Machine) -> list[Resource]:
        request, key = self._request, machine.key
        gateway = request.gateway
        # A certificate of the stack's own also answers to this machine's names; one that is given need not.
        extra = ("localhost", "127.0.0.1", "::1") if self._local and not gateway.tls_cert else ()
        certificate: dict[str, Tree] = {
            "ca": None if gateway.tls_cert else Ref("tls_ca.stack", "certificate_pem"),
            "names": tuple(dict.fromkeys((*self._names, *extra))),
            "days": _CERTIFICATE_DAYS,
            "cert_ref": gateway.tls_cert,
            "key_ref": gateway.tls_key,
            "kms_key": None if gateway.tls_cert else self._fragment.kms_key,
        }
        engines = [f"host_engine.{_engine_key(machine, slot)}" for slot in machine.slots if slot.rank == 0]
        edge: dict[str, Tree] = {
            "host": machine.host,
            "engine_sockets": tuple(Ref(engine, "socket") for engine in engines),
            "keys": tuple(self._gateway_key(k) for k in request.keys),
            "chain_pem": Ref(f"certificate.{key}", "chain_pem"),
            "key_source": Ref(f"certificate.{key}", "key_source"),
            # Without a name of its own the endpoint is for this machine: the certificate says localhost.
            "address": "127.0.0.1" if self._local and not gateway.domain else "0.0.0.0",  # noqa: S104 - a name is asked for
            "port": gateway.port,
            "sticky": gateway.sticky,
            "served_name": request.serving.served_name,
            "log_retention_days": gateway.log_retention_days,
            "user": Ref(f"host_home.{key}", "user"),
            "supervisor": Ref(f"host_supervisor.{key}", "kind"),
        }
        if self._fragment.entry:
            edge["behind"] = self._fragment.entry
        if peers := self._peers(machine):
            edge |= {"peers": peers, "peer_port": gateway.peer_port}
        if gateway.generic_errors:
            edge["generic_errors"] = True
        if gateway.fallback:
            edge["fallback"] = asdict(gateway.fallback)
        return [
            self._resource("certificate", key, certificate, "gateway.tls", key),
            self._resource("host_gateway", key, edge, "gateway", key, self._ground(machine)),
        ]

    def _partners(self, machine: Machine) -> tuple[Tree, ...]:
        """Return the addresses of the machines that this one's replicas span as well."""
        mine = {slot.replica for slot in machine.slots}
        others = (m for m in self._fragment.machines if m.key != machine.key)
        return tuple(other.address for other in others if any(slot.replica in mine for slot in other.slots))

    def _peers(self, machine: Machine) -> tuple[Tree, ...]:
        others = (m for m in self._fragment.machines if m.key != machine.key)
        return tuple(other.address for other in others if _answers(other))

    def _gateway_key(self, key: KeyRequest) -> dict[str, Tree]:
        made = self._fragment.keys.get(key.name) or f"api_key.{key.name}"
        return {
            "name": key.name,
            "principal": key.principal,
            "requests_per_minute": key.requests_per_minute,
            "concurrency": key.concurrency,
            "allow_fallback": key.allow_fallback,
            "credentials": Ref(made, "credentials"),
        }


def _has_gpus(machine: Machine) -> bool:
    return any(slot.gpus for slot in machine.slots)


def _answers(machine: Machine) -> bool:
    """Tell whether requests come to this machine: it is the first of a replica."""
    return any(slot.rank == 0 for slot in machine.slots)


def _bracketed(name: str) -> str:
    """Return a host as a URL has it."""
    return f"[{name}]" if ":" in name else name


def _engine_key(machine: Machine, slot: Slot) -> str:
    """Return the address of an engine without its type: the machine alone where only one runs on it."""
    return machine.key if len(machine.slots) == 1 else f"{machine.key}.{slot.replica}"
