"""Resource types on the fake cloud: between them they use each part of the contract, as types of a real cloud would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from ..sdk import (
    EVIDENCE,
    Context,
    DataFlow,
    Drift,
    Identity,
    Input,
    Interrupted,
    ManagedType,
    NotOwned,
    Observation,
    OperationResult,
    Outputs,
    Prior,
    Problem,
    ProviderError,
    Replace,
    ReplaceWith,
    Run,
    SecretError,
    SecretRef,
    Spec,
    TokenSpent,
    Traits,
    Tree,
    observed,
)
from .cloud import BUSY, LOST, Cloud, CloudError, Json

SETTLE_READS = 6
"""How often to look before something that cannot be seen counts as gone. More than a new object stays hidden."""

S = TypeVar("S", bound=Spec)
O = TypeVar("O", bound=Outputs)  # noqa: E741 - S and O stand for Spec and Outputs throughout the contract


class Door:
    """The way of a run to its cloud. poll_s: seconds between two looks at something that takes time."""

    def __init__(self, connect: Callable[[Run], Cloud], poll_s: float) -> None:
        self._connect = connect
        self._poll_s = poll_s

    def ask(self, run: Run, call: str, /, **arguments: Json) -> Json:
        """Call the cloud.

        Raises:
            ProviderError: what a person needs to know; retryable when it may pass.
            CloudError: `NotFound` or `AlreadyExists`, which the caller knows how to take.
        """
        cloud = run.shared("fakecloud", lambda: self._connect(run))
        try:
            return cloud.call(call, **arguments)
        except CloudError as error:
            if error.code in ("NotFound", "AlreadyExists"):
                raise
            raise _told(call, error) from None

    def looks(self, run: Run, most: int | None = SETTLE_READS) -> Iterator[None]:
        """Pace repeated looks, `most` of them. Raises Interrupted when the run is to end."""
        looked = 0
        while most is None or looked < most:
            if looked and run.abort.wait(self._poll_s):
                raise Interrupted("stopped while waiting for the cloud")
            looked += 1
            yield


def _told(call: str, error: CloudError) -> ProviderError:
    if error.code in LOST:
        return ProviderError(f"the cloud did not answer the call {call} ({error.code})", hint="run it again", retryable=True)
    if error.code in BUSY:
        return ProviderError(f"the cloud is busy ({error.code})", hint="wait a minute and run it again", retryable=True)
    if error.code == "IdempotentObjectTerminated":
        return TokenSpent(f"what this token made is gone: {error.message}")
    if error.code == "InsufficientCapacity":
        return ProviderError(f"the cloud has no room: {error.message}", hint="remove something, or ask for a higher quota")
    return ProviderError(f"the cloud refused the call {call}: {error}", hint="report this: the provider asked for nonsense")


class CloudType(ManagedType[S, O]):
    """One kind of object of the fake cloud, whose params are the spec."""

    kind: ClassVar[str]

    def __init__(self, door: Door) -> None:
        self.door = door

    def outputs_of(self, found: Mapping[str, Json]) -> Mapping[str, Tree]:
        """Return the outputs that an object shows by itself."""
        raise NotImplementedError

    def drift(self, run: Run, prior: Prior, found: Mapping[str, Json]) -> tuple[Drift, ...]:
        """Return what differs from what was made."""
        del run
        params = found["params"]
        return tuple(
            Drift(name, f"{name} is {params.get(name)!r}, it was made {wanted!r}")
            for name, wanted in prior.spec.items()
            if name != "password" and params.get(name) != wanted
        )

    def make(self, ctx: Context, spec: S, *, name: str = "") -> Mapping[str, Json]:
        """Create the object with the token of this generation, or return the one that an interrupted try made."""
        if ctx.object_id and (found := self.described(ctx.run, ctx.object_id)):
            return found
        params = spec.model_dump(mode="json")
        found = self.door.ask(ctx.run, "create", kind=self.kind, name=name, params=params, tags=dict(ctx.tags), token=ctx.token)
        ctx.acked(found["id"])
        return found

    def change(self, ctx: Context, prior: Prior, spec: S) -> Mapping[str, Json]:
        """Bring the params of the object to those of `spec`. Raises ProviderError when it is gone."""
        return self.act(ctx.run, "update", prior.id, params=spec.model_dump(mode="json"))

    def act(self, run: Run, call: str, object_id: str, **arguments: Json) -> Mapping[str, Json]:
        """Call something of an object. Raises ProviderError when it is gone."""
        found = self._try(run, call, object_id, **arguments)
        if found is None:
            raise ProviderError(f"{object_id} is gone", hint="run `llmdeploy plan` again")
        return found

    def described(self, run: Run, object_id: str) -> Mapping[str, Json] | None:
        """Return the object, or None when it is gone."""
        return self._try(run, "get", object_id)

    def _try(self, run: Run, call: str, object_id: str, **arguments: Json) -> Mapping[str, Json] | None:
        """Call; None when the object cannot be seen for so long that it is gone."""
        for _ in self.door.looks(run):
            try:
                return self.door.ask(run, call, id=object_id, **arguments)
            except CloudError:
                continue
        return None

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Remove the object, found by its tags when its id was never told."""
        object_id = prior.id or self._find(ctx)
        if object_id:
            self._try(ctx.run, "delete", object_id)

    def _find(self, ctx: Context) -> str:
        for _ in self.door.looks(ctx.run):
            for found in self.door.ask(ctx.run, "list", kind=self.kind, tags=dict(ctx.tags)):
                return found["id"]
        return ""

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """It lies in the cloud's one region."""
        return Traits(region="nowhere-1", in_transit="encrypted")


def _mark(run: Run, ref: str | None) -> str | None:
    """Return a keyed fingerprint of the secret behind `ref`: it tells a change and nothing else."""
    return run.secret(ref).fingerprint(run.slug.encode()) if ref else None


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]


# --- network: the plainest ---------------------------------------------------------------------------------------------------


class NetworkSpec(Spec):
    """A network."""

    cidr: Annotated[str, Replace("the addresses of a network are fixed")] = "10.0.0.0/16"
    mtu: int = Field(default=1500, ge=576, le=9000)


class NetworkOutputs(Outputs):
    """Its id, and the range that was asked for."""

    id: str
    cidr: str


class Network(CloudType[NetworkSpec, NetworkOutputs]):
    """Made with a token; there at once."""

    name = "fake_network"
    kind = "network"
    spec = NetworkSpec
    outputs = NetworkOutputs

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """Its range is the one asked for."""
        return {"cidr": values["cidr"]}

    def outputs_of(self, found: Mapping[str, Json]) -> Mapping[str, Tree]:
        """Return id and range."""
        return {"id": found["id"], "cidr": found["params"]["cidr"]}

    def create(self, ctx: Context, spec: NetworkSpec) -> NetworkOutputs:
        """Make it."""
        return NetworkOutputs.model_validate(self.outputs_of(self.make(ctx, spec)))

    def update(self, ctx: Context, prior: Prior, spec: NetworkSpec) -> NetworkOutputs:
        """Change it."""
        return NetworkOutputs.model_validate(self.outputs_of(self.change(ctx, prior, spec)))


# --- template: replaced before the old one goes ---------------------------------------------------------------------------------


class TemplateSpec(Spec):
    """What machines are made from."""

    image: Annotated[str, Replace("a template is never changed")]
    network: Annotated[Input[str] | None, ReplaceWith("a template lies in its network")] = None


class TemplateOutputs(Outputs):
    """Its id."""

    id: str


class Template(CloudType[TemplateSpec, TemplateOutputs]):
    """Others go on using the old one until they know the new one."""

    name = "fake_template"
    kind = "template"
    spec = TemplateSpec
    outputs = TemplateOutputs
    create_first = True

    def outputs_of(self, found: Mapping[str, Json]) -> Mapping[str, Tree]:
        """Return the id."""
        return {"id": found["id"]}

    def create(self, ctx: Context, spec: TemplateSpec) -> TemplateOutputs:
        """Make it."""
        return TemplateOutputs.model_validate(self.outputs_of(self.make(ctx, spec)))

    def update(self, ctx: Context, prior: Prior, spec: TemplateSpec) -> TemplateOutputs:
        """Undo what somebody did to it."""
        return TemplateOutputs.model_validate(self.outputs_of(self.change(ctx, prior, spec)))


# --- bucket: found by its name, without tokens ----------------------------------------------------------------------------------


class BucketSpec(Spec):
    """A bucket; its name is unique."""

    bucket: Annotated[str, Replace("a bucket cannot be renamed")] = Field(pattern=r"^[a-z0-9-]{3,63}$")
    versioned: bool = True
    about: Input[str] | None = None
    password: SecretRef | None = None


class BucketOutputs(Outputs):
    """Its URL, and a keyed mark of its password."""

    url: str
    password_mark: str | None


class Bucket(CloudType[BucketSpec, BucketOutputs]):
    """Its API knows no tokens: a name that is taken is ours if the tags are."""

    name = "fake_bucket"
    kind = "bucket"
    spec = BucketSpec
    outputs = BucketOutputs
    changing_outputs = frozenset({"password_mark"})
    holds_data = True

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """Its URL follows from its name."""
        return {"url": f"fake://{values['bucket']}"} if isinstance(values["bucket"], str) else {}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """It holds data, encrypted."""
        return Traits(region="nowhere-1", at_rest="encrypted", in_transit="encrypted", custody="reference")

    def outputs_of(self, found: Mapping[str, Json]) -> Mapping[str, Tree]:
        """Return the URL; the mark needs the secret."""
        return {"url": f"fake://{found['name']}", "password_mark": None}

    def create(self, ctx: Context, spec: BucketSpec) -> BucketOutputs:
        """Make it, or adopt the one that an interrupted try made."""
        found = self._made(ctx, spec)
        wanted = spec.model_dump(mode="json")
        if found["params"] != wanted:
            self.act(ctx.run, "update", found["id"], params=wanted)
        return self._finished(ctx, found["id"], spec)

    def _made(self, ctx: Context, spec: BucketSpec) -> Mapping[str, Json]:
        if ctx.object_id and (found := self.described(ctx.run, ctx.object_id)):
            return found
        params = spec.model_dump(mode="json")
        try:
            found = self.door.ask(ctx.run, "create", kind=self.kind, name=spec.bucket, params=params, tags=dict(ctx.tags))
        except CloudError:
            found = self._ours(ctx, spec.bucket)
        ctx.acked(found["id"])
        return found

    def _ours(self, ctx: Context, name: str) -> Mapping[str, Json]:
        for _ in self.door.looks(ctx.run):
            for found in self.door.ask(ctx.run, "list", kind=self.kind, tags=dict(ctx.tags)):
                if found["name"] == name:
                    return found
        raise NotOwned(f"a bucket named {name} is there, and this stack did not make it", hint="choose another name")

    def update(self, ctx: Context, prior: Prior, spec: BucketSpec) -> BucketOutputs:
        """Change it."""
        self.change(ctx, prior, spec)
        return self._finished(ctx, prior.id, spec)

    def _finished(self, ctx: Context, object_id: str, spec: BucketSpec) -> BucketOutputs:
        mark = _set_password(self, ctx, object_id, spec.password)
        return BucketOutputs(url=f"fake://{spec.bucket}", password_mark=mark)

    def drift(self, run: Run, prior: Prior, found: Mapping[str, Json]) -> tuple[Drift, ...]:
        """The password counts too."""
        return (*super().drift(run, prior, found), *_password_drift(run, prior))


def _set_password(kind: CloudType[Any, Any], ctx: Context, object_id: str, ref: str | None) -> str | None:
    mark = _mark(ctx.run, ref)
    if ref is None or mark is None:
        return None

    def send() -> None:
        kind.act(ctx.run, "attach", object_id, part="password", value=ctx.run.secret(ref).reveal().decode())

    ctx.step(f"password-{_short(mark)}", send)
    return mark


def _password_drift(run: Run, prior: Prior) -> tuple[Drift, ...]:
    ref = prior.spec.get("password")
    if ref is None:
        return ()
    try:
        same = _mark(run, ref) == prior.outputs.get("password_mark")
    except SecretError:
        return ()  # nothing can be told without it, and a destroy does not need it
    return () if same else (Drift("password", f"the password behind {ref} is another one"),)


# --- machine: takes time, has steps, serves ------------------------------------------------------------------------------------


class MachineSpec(Spec):
    """A machine. size counts cores; label and config can change while it runs."""

    size: int = Field(default=1, ge=1)
    image: Annotated[str, Replace("a disk cannot be swapped under a running machine")] = "debian"
    network: Annotated[Input[str] | None, ReplaceWith("a machine cannot move to another network")] = None
    template: Input[str] | None = None
    config: Input[str] = ""
    healthy: bool = True
    password: SecretRef | None = None


class MachineOutputs(Outputs):
    """id and address: fixed for its life. flavor: follows from size. revision: counts its changes."""

    id: str
    address: str
    flavor: str
    revision: int
    password_mark: str | None


def _drain(kind: Machine) -> Callable[[Context, Prior, Mapping[str, Tree]], OperationResult]:
    return lambda ctx, prior, _arguments: kind.serve(ctx, prior, serving=False)


def _undrain(kind: Machine) -> Callable[[Context, Prior, Mapping[str, Tree]], OperationResult]:
    return lambda ctx, prior, _arguments: kind.serve(ctx, prior, serving=True)


class Machine(CloudType[MachineSpec, MachineOutputs]):
    """Made with a token, pending for a while, then configured in steps."""

    name = "fake_machine"
    kind = "machine"
    spec = MachineSpec
    outputs = MachineOutputs
    version = 2
    changing_outputs = frozenset({"revision", "password_mark"})

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self.operations = {"drain": _drain(self), "undrain": _undrain(self), "probe": self._probe, EVIDENCE: self._evidence}

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The flavor follows from the size."""
        return {"flavor": _flavor(values["size"])} if isinstance(values["size"], int) else {}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """It holds nothing; what it is told goes to the cloud."""
        flow = (DataFlow(what="configuration", to="the fake cloud", region="nowhere-1"),) if values.get("config") else ()
        return Traits(region="nowhere-1", in_transit="encrypted", exposure="private", data_flows=flow)

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """The largest machine has 64 cores."""
        size = values.get("size")
        return [Problem(f"no machine has {size} cores", "at most 64")] if isinstance(size, int) and size > 64 else []

    def upgrade(self, version: int, entry: dict[str, Tree]) -> dict[str, Tree]:
        """Version 1 said cores for size, and knew no flavor."""
        spec = dict(entry["spec"])
        spec["size"] = spec.pop("cores")
        return {"spec": spec, "outputs": {**entry["outputs"], "flavor": _flavor(spec["size"])}}

    def outputs_of(self, found: Mapping[str, Json]) -> Mapping[str, Tree]:
        """Return all but the mark, which needs the secret."""
        number = int(sha256(found["id"].encode()).hexdigest()[:4], 16)
        return {
            "id": found["id"],
            "address": f"10.0.{number // 256}.{number % 256}",
            "flavor": _flavor(found["params"]["size"]),
            "revision": found["revision"],
            "password_mark": None,
        }

    def create(self, ctx: Context, spec: MachineSpec) -> MachineOutputs:
        """Make it, wait until it runs, configure it."""
        object_id = self.make(ctx, spec)["id"]
        self._wait_until_it_runs(ctx, object_id)
        ctx.step("disk", lambda: self._attach(ctx, object_id, "disk", "20 GiB"))
        return self._configured(ctx, object_id, spec)

    def _wait_until_it_runs(self, ctx: Context, object_id: str) -> None:
        for _ in self.door.looks(ctx.run, None):
            found = self.described(ctx.run, object_id)
            if found is None:
                raise TokenSpent(f"{object_id} was removed while it started")
            if found["state"] == "running":
                return
            ctx.progress("it starts")

    def _attach(self, ctx: Context, object_id: str, part: str, value: str) -> None:
        self.act(ctx.run, "attach", object_id, part=part, value=value)

    def _configured(self, ctx: Context, object_id: str, spec: MachineSpec) -> MachineOutputs:
        ctx.step(f"config-{_short(spec.config)}", lambda: self._attach(ctx, object_id, "config", spec.config))
        mark = _set_password(self, ctx, object_id, spec.password)
        found = self.act(ctx.run, "get", object_id)
        return MachineOutputs.model_validate({**self.outputs_of(found), "password_mark": mark})

    def update(self, ctx: Context, prior: Prior, spec: MachineSpec) -> MachineOutputs:
        """Change it while it runs, and let it back into service if somebody else took it out."""
        self.change(ctx, prior, spec)
        if any(drift.field == "serving" for drift in prior.drift):
            self.serve(ctx, prior, serving=True)
        return self._configured(ctx, prior.id, spec)

    def drift(self, run: Run, prior: Prior, found: Mapping[str, Json]) -> tuple[Drift, ...]:
        """The password, what the steps left, and whether it serves count too."""
        lost = () if found["parts"].get("config") == prior.spec["config"] else (Drift("config", "its configuration was changed"),)
        out = () if found["serving"] else (Drift("serving", "it is out of service"),)
        return (*super().drift(run, prior, found), *lost, *out, *_password_drift(run, prior))

    def serve(self, ctx: Context, prior: Prior, *, serving: bool) -> OperationResult:
        """Let it into service or take it out; what is gone is out."""
        if not serving and self.described(ctx.run, prior.id) is None:
            return OperationResult({"serving": False})
        self.act(ctx.run, "serve", prior.id, serving=serving)
        return OperationResult({"serving": serving})

    def _probe(self, ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
        found = self.act(ctx.run, "get", prior.id)
        if not found["params"]["healthy"]:
            raise ProviderError(f"{prior.id} does not answer its health check", hint="look at its configuration")
        return OperationResult({"state": found["state"]})

    def _evidence(self, ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
        """Tell what the cloud says of it; what it cannot say has a reason, and is never guessed."""
        self.act(ctx.run, "get", prior.id)
        region = self.door.ask(ctx.run, "account")["region"]
        where = Observation(fact="region", value=region, host="fakecloud", command="account", output=region)
        return observed((where, Observation(fact="clock_synced", host="fakecloud", reason="this cloud shows no clocks")))


def _flavor(size: int) -> str:
    return f"fake.{size}"
