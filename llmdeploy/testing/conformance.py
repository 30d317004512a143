"""What every provider must keep, as tests: subclass `Conformance`, name samples of your types, and give a world to try them in.

    class TestAcme(Conformance):
        samples = (Sample("acme_object.a", first={"name": "a"}, changed={"name": "a", "size": 2}),)

        @pytest.fixture
        def world(self, tmp_path: Path) -> World:
            return World(provider, lambda: Run(Identity("demo", "0" * 32), tmp_path, {}))

Needs the extra `test`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ValidationError

from ..resource import UNKNOWN, Tree, as_sequence, check_address, iter_refs, resolve
from ..sdk import (
    Context,
    HasAccount,
    Identity,
    ManagedType,
    Prior,
    Provider,
    ReadRequest,
    ReadResult,
    Run,
    Sweeper,
    Tariff,
    Traits,
)
from .effects import PowerCut


@dataclass(frozen=True)
class Sample:
    """One resource to try a type with.

    first, changed, replacing: specs; changed can be reached in place, replacing only by a new object. `Ref`s lead to outputs of
    other samples, which are made first. older: for each earlier version of the type an entry `{"spec": ..., "outputs": ...}`.
    tells_gone: its refresh can tell that the object is gone.
    """

    address: str
    first: Mapping[str, Tree]
    changed: Mapping[str, Tree] | None = None
    replacing: Mapping[str, Tree] | None = None
    older: Mapping[int, Mapping[str, Tree]] = field(default_factory=dict[int, Mapping[str, Tree]])
    tells_gone: bool = True

    @property
    def type(self) -> str:
        """The name of its type."""
        return self.address.partition(".")[0]


@dataclass
class World:
    """Where samples are made. run: opens a run as a new process does, always of the same stack. secrets: values that must show up
    nowhere. live: counts what exists, when that can be told; config: the provider's own."""

    provider: Provider
    run: Callable[[], Run]
    secrets: tuple[str, ...] = ()
    live: Callable[[], int] | None = None
    config: Mapping[str, Tree] = field(default_factory=dict[str, Tree])


@dataclass
class Made:
    """A sample as far as it was made, with everything that became durable or was told on the way."""

    sample: Sample
    values: Mapping[str, Tree]
    generation: int = 1
    id: str = ""
    steps: tuple[str, ...] = ()
    outputs: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    status: str = "creating"
    told: list[str] = field(default_factory=list[str])
    durable: int = 0

    def prior(self, read: ReadResult | None = None) -> Prior:
        """Return what the type is given of it."""
        outputs = self.outputs if read is None or read.outputs is None else read.outputs
        spec = json.loads(json.dumps(self.values))
        prior = Prior(self.sample.address, self.id, spec, outputs, self.status, self.generation)
        return prior if read is None else replace(prior, exists=read.exists, drift=read.drift)


class Site:
    """Makes samples in a world, stops on the way when asked to, and removes them in the end."""

    def __init__(self, world: World, samples: Sequence[Sample]) -> None:
        self.world = world
        self.run = world.run()
        self._samples = {sample.address: sample for sample in samples}
        self._made: dict[str, Made] = {}

    def kind(self, sample: Sample) -> ManagedType[Any, Any]:
        """Return the type of a sample."""
        kind = self.world.provider.types[sample.type]
        assert isinstance(kind, ManagedType), f"{sample.type} cannot be made"
        return kind

    def values(self, sample: Sample, tree: Mapping[str, Tree]) -> Mapping[str, Tree]:
        """Return the resolved, complete spec of a sample. What it refers to is made."""
        for ref in iter_refs(tree):
            self.make(self._samples[ref.address])
        resolved = resolve(tree, {address: made.outputs for address, made in self._made.items()})
        return self.kind(sample).spec.model_validate(resolved).model_dump(mode="json", by_alias=True)

    def begin(self, sample: Sample) -> Made:
        """Return the sample, not made yet, and remember to remove it."""
        made = Made(sample, self.values(sample, sample.first))
        self._made[sample.address] = made
        return made

    def make(self, sample: Sample) -> Made:
        """Make a sample to the end, once."""
        made = self._made.get(sample.address)
        if made is None or made.status != "ok":
            made = made or self.begin(sample)
            self.create(made)
        return made

    def create(self, made: Made, *, stop_after: int | None = None) -> None:
        """Create, or go on creating. stop_after: die when so many records (acknowledgement, steps) became durable in all."""
        kind = self.kind(made.sample)
        spec = kind.spec.model_validate(made.values)
        outputs = kind.create(self.context(made, stop_after=stop_after), spec)
        made.id = made.id or made.sample.address
        made.outputs, made.status = outputs.tree(), "ok"

    def context(self, made: Made, *, stop_after: int | None = None, making: bool = True) -> Context:
        """Return the context of an operation, as the engine makes it."""

        def keep(record: str) -> None:
            made.told.append(record)
            made.durable += 1
            if made.durable == stop_after:
                raise PowerCut(record)

        def acked(object_id: str) -> None:
            assert made.id in ("", object_id), f"{made.sample.address}: acknowledged as {made.id}, then as {object_id}"
            if made.id != object_id:
                made.id = object_id
                keep(object_id)

        def step(name: str) -> None:
            made.steps = (*made.steps, name)
            keep(name)

        return Context(
            self.run,
            made.sample.address,
            generation=made.generation,
            token=f"{self.run.identity.lineage}-{made.sample.address}-{made.generation}".ljust(64, "0"),
            object_id=made.id,
            done_steps=made.steps if making else (),
            on_acked=acked if making else made.told.append,
            on_step=step if making else made.told.append,
            on_progress=made.told.append,
        )

    def new_process(self) -> None:
        """Forget everything that one run shares: connections, caches."""
        self.run.close()
        self.run = self.world.run()

    def read(self, *several: Made) -> list[ReadResult]:
        """Refresh; check that there is one answer to each question."""
        requests = [ReadRequest(made.sample.type, made.prior()) for made in several]
        results = list(self.world.provider.refresh(self.run, requests))
        asked = sorted(request.prior.address for request in requests)
        assert sorted(result.address for result in results) == asked, "one result per request, no more and no less"
        for result in results:
            assert not result.error, f"{result.address}: {result.error}"
        order = [request.prior.address for request in requests]
        return sorted(results, key=lambda result: order.index(result.address))

    def update(self, made: Made, values: Mapping[str, Tree]) -> Mapping[str, Tree]:
        """Update once; return the outputs."""
        kind = self.kind(made.sample)
        prior = made.prior(self.read(made)[0])
        outputs = kind.update(self.context(made, making=False), prior, kind.spec.model_validate(values))
        return outputs.tree()

    def delete(self, made: Made, *, knows_id: bool = True) -> None:
        """Remove it, with or without knowing its id."""
        prior = made.prior() if knows_id else replace(made.prior(), id="")
        self.kind(made.sample).delete(self.context(made, making=False), prior)

    def close(self) -> None:
        """Remove what is left, what was made last first."""
        self.new_process()
        for made in reversed(self._made.values()):
            self.delete(made)
        self.run.close()

    def live(self) -> int | None:
        """Return how many objects exist, if that can be told."""
        return self.world.live() if self.world.live else None

    def told(self) -> str:
        """Return everything that became durable or was shown."""
        made = [(one.values, one.outputs, one.steps, one.id, one.told) for one in self._made.values()]
        return json.dumps(made, default=str)


class Conformance:
    """The suite. Each test makes its own samples in a fresh world and removes them."""

    samples: ClassVar[tuple[Sample, ...]] = ()

    @pytest.fixture
    def site(self, world: World) -> Generator[Site]:
        """Give a place to make samples in; see that no secret comes out of it, and that nothing stays."""
        site = Site(world, self.samples)
        yield site
        found = [secret for secret in world.secrets if secret in site.told()]
        site.close()
        assert not found, "a secret is in a spec, an output, a step or a progress line"

    @pytest.fixture
    def sample(self, request: pytest.FixtureRequest) -> Sample:
        """One sample after the other."""
        return request.param

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that takes a sample with every one of them."""
        if "sample" in metafunc.fixturenames:
            metafunc.parametrize("sample", self.samples, ids=[sample.address for sample in self.samples], indirect=True)

    # --- create -----------------------------------------------------------------------------------------------------------

    def test_a_create_is_made_once_however_often_it_is_sent(self, site: Site, sample: Sample) -> None:
        """The same token, and nothing known of the first try: the same object and the same outputs."""
        made = site.begin(sample)
        before = site.live()
        site.create(made)
        first, alive = (made.id, _steady(site, made)), site.live()
        made.id, made.steps = "", ()
        site.new_process()
        site.create(made)
        assert (made.id, _steady(site, made)) == first
        assert site.live() == alive
        assert before is None or alive == before + 1, "one create makes one object"

    def test_a_create_goes_on_where_it_was_stopped(self, site: Site, sample: Sample) -> None:
        """Stopped after its acknowledgement and after each step: it goes on, repeats no step, and comes to the same end."""
        made = site.begin(sample)
        before = site.live()
        for stop in count(1):
            site.new_process()
            try:
                site.create(made, stop_after=stop)
            except PowerCut:
                continue
            break
        assert len(set(made.steps)) == len(made.steps), f"a step was done twice: {made.steps}"
        assert before is None or site.live() == before + 1, "all tries together make one object"
        self._is_settled(site, made)

    def test_what_was_made_is_there_and_needs_no_change(self, site: Site, sample: Sample) -> None:
        """After create: refresh finds it without drift, and the plan is to do nothing."""
        made = site.make(sample)
        site.new_process()
        self._is_settled(site, made)

    def _is_settled(self, site: Site, made: Made) -> None:
        (read,) = site.read(made)
        assert (read.exists, read.drift) == (True, ()), f"{made.sample.address}: {read}"
        planned = site.kind(made.sample).plan(made.prior(read), made.values)
        assert planned.action == "no-op", f"{made.sample.address}: {planned}"

    def test_outputs_come_as_they_were_predicted(self, site: Site, sample: Sample) -> None:
        """A plan shows predicted outputs as certain."""
        made = site.make(sample)
        kind = site.kind(sample)
        for name, value in kind.predict(made.values, site.run.identity).items():
            assert name in kind.outputs.model_fields
            assert made.outputs[name] == value, f"{sample.address}: {name}"

    # --- update and replace -------------------------------------------------------------------------------------------------

    def test_an_update_in_place_can_be_repeated(self, site: Site, sample: Sample) -> None:
        """Sent twice, as after a lost answer: the same end. Only `changing_outputs` and predicted ones are others."""
        if sample.changed is None:
            pytest.skip("nothing of it changes in place")
        made = site.make(sample)
        kind, before = site.kind(sample), dict(made.outputs)
        values = site.values(sample, sample.changed)
        planned = kind.plan(made.prior(site.read(made)[0]), values)
        assert planned.action == "update"
        assert planned.fields or planned.reason, "an update says what differs, or why"
        site.update(made, values)
        site.new_process()
        made.status = "updating"
        made.outputs = site.update(made, values)
        made.values, made.status = values, "ok"
        self._is_settled(site, made)
        predicted = kind.predict(values, site.run.identity)
        for name, value in made.outputs.items():
            if name in predicted:
                assert value == predicted[name], name
            elif name not in kind.changing_outputs:
                assert value == before[name], f"{name} changed with an update, and is not in changing_outputs"

    def test_what_cannot_change_in_place_is_replaced_with_a_reason(self, site: Site, sample: Sample) -> None:
        """The plan says replace, and why in one line."""
        if sample.replacing is None:
            pytest.skip("everything of it changes in place")
        made = site.make(sample)
        planned = site.kind(sample).plan(made.prior(site.read(made)[0]), site.values(sample, sample.replacing))
        assert planned.action == "replace"
        assert planned.reason
        assert "\n" not in planned.reason
        assert any(change.replaces for change in planned.fields)

    # --- delete -------------------------------------------------------------------------------------------------------------

    def test_a_delete_can_be_repeated(self, site: Site, sample: Sample) -> None:
        """The second time it is gone already."""
        made = site.begin(sample)
        before = site.live()
        site.create(made)
        for _ in range(2):
            site.new_process()
            site.delete(made)
        assert site.live() == before
        (read,) = site.read(made)
        assert not read.exists or not sample.tells_gone

    def test_a_delete_removes_what_is_half_made(self, site: Site, sample: Sample) -> None:
        """Stopped after its acknowledgement and after each step."""
        for stop in count(1):
            made = site.begin(sample)
            made.generation = stop  # each is another object
            before = site.live()
            try:
                site.create(made, stop_after=stop)
            except PowerCut:
                site.new_process()
                site.delete(made)
                assert site.live() == before, f"stopped after {made.told[-1]}"
                continue
            break

    def test_a_delete_finds_what_was_never_acknowledged(self, site: Site, sample: Sample) -> None:
        """The answer to the create was lost: there is an object, and nobody knows its id."""
        made = site.begin(sample)
        before = site.live()
        with suppress(PowerCut):
            site.create(made, stop_after=1)
        made.id = ""
        site.new_process()
        site.delete(made, knows_id=False)
        assert site.live() == before
        (read,) = site.read(made)
        assert not read.exists or not sample.tells_gone
        site.delete(made, knows_id=False)

    # --- refresh ------------------------------------------------------------------------------------------------------------

    def test_refresh_answers_each_question_once(self, site: Site) -> None:
        """Many at once and in any order, also for what is gone; nothing raises."""
        made = [site.make(sample) for sample in self.samples]
        assert all(result.exists for result in site.read(*reversed(made)))
        last = made[-1]
        site.delete(last)
        results = site.read(*made)
        assert not results[-1].exists or not last.sample.tells_gone
        assert site.read() == []

    # --- pure parts ---------------------------------------------------------------------------------------------------------

    def test_specs_outputs_and_traits_survive_json(self, site: Site, sample: Sample) -> None:
        """What is stored comes back the same."""
        made, kind = site.make(sample), site.kind(sample)
        spec = kind.spec.model_validate(made.values)
        assert kind.spec.model_validate_json(json.dumps(spec.model_dump(mode="json", by_alias=True))) == spec
        outputs: BaseModel = kind.outputs.model_validate(made.outputs)
        assert kind.outputs.model_validate_json(json.dumps(outputs.model_dump(mode="json", by_alias=True))) == outputs
        assert set(made.outputs) == set(kind.outputs.model_fields)
        traits = kind.traits(made.values)
        assert Traits.model_validate_json(traits.model_dump_json()) == traits

    def test_nothing_breaks_while_inputs_are_unknown(self, site: Site, sample: Sample) -> None:
        """Before the first apply an input may be known only later: plan, traits, predict, cost and preflight live with that."""
        made, kind = site.make(sample), site.kind(sample)
        prior = made.prior(site.read(made)[0])
        for values in (made.values, *_with_unknowns(kind.spec, made.values)):
            assert kind.plan(None, values).action == "create"
            assert kind.plan(prior, values).action in ("no-op", "update", "replace")
            assert isinstance(kind.traits(values), Traits)
            assert set(kind.predict(values, Identity(site.run.identity.name, None))) <= set(kind.outputs.model_fields)
            assert isinstance(kind.cost(values, Tariff()), tuple)
            for problem in kind.preflight(site.run, values, None):
                assert problem.sentence

    def test_preflight_finds_nothing_missing(self, site: Site, sample: Sample) -> None:
        """The sample can be made here; asking has no effect."""
        before = site.live()
        values = site.begin(sample).values
        beside = site.live()
        assert list(site.kind(sample).preflight(site.run, values, None)) == []
        assert site.live() == beside
        assert before is None or beside is None or beside >= before

    def test_older_entries_are_brought_up_to_date(self, site: Site, sample: Sample) -> None:
        """Each earlier version has a sample, and each step leads to the next version."""
        kind = site.kind(sample)
        assert set(sample.older) == set(range(1, kind.version)), f"{sample.type} has version {kind.version}: give older samples"
        for version, old in sample.older.items():
            entry = json.loads(json.dumps(old))
            for number in range(version, kind.version):
                entry = kind.upgrade(number, entry)
            kind.spec.model_validate(entry["spec"])
            kind.outputs.model_validate(entry["outputs"])

    def test_types_are_named_as_they_are_listed(self, world: World) -> None:
        """Every type has a sample, a name that begins addresses, and time to work."""
        for name, kind in world.provider.types.items():
            assert kind.name == name
            check_address(f"{name}.a")
            assert min(kind.timeouts.create_s, kind.timeouts.update_s, kind.timeouts.delete_s) > 0
            assert kind.changing_outputs <= set(kind.outputs.model_fields)

    # --- whose it is ----------------------------------------------------------------------------------------------------------

    def test_a_sweep_finds_what_was_made_and_nothing_else(self, site: Site) -> None:
        """By its ownership tags; another stack finds nothing."""
        provider = site.world.provider
        if not isinstance(provider, Sweeper):
            pytest.skip("it sweeps nothing")
        config = provider.Config.model_validate(site.world.config)
        made = [site.make(sample) for sample in self.samples]
        site.read(*made)  # a new object may take a moment to be seen
        found = {one.address: one for one in provider.sweep(site.run, config)}
        assert set(found) == {one.sample.address for one in made}
        for one in made:
            seen = found[one.sample.address]
            assert (seen.id, seen.generation, seen.type, seen.provider) == (one.id, 1, one.sample.type, provider.name)
            planned = site.kind(one.sample).plan(replace(one.prior(), spec=seen.spec, outputs=seen.outputs), one.values)
            assert planned.action == "no-op", f"{seen.address}: what a sweep reads back differs: {planned.fields}"
        own = site.run.identity
        site.run.identity = Identity(own.name, "f" * 32)
        assert list(provider.sweep(site.run, config)) == []
        site.run.identity = own

    def test_the_account_can_be_told(self, world: World) -> None:
        """Text only, and no secret."""
        if not isinstance(world.provider, HasAccount):
            pytest.skip("it has no account")
        run = world.run()
        account = world.provider.account(run, world.provider.Config.model_validate(world.config))
        run.close()
        assert all(isinstance(value, str) for value in account.values())
        assert not any(secret in json.dumps(dict(account)) for secret in world.secrets)


def _steady(site: Site, made: Made) -> Mapping[str, Tree]:
    """Return the outputs that stay the same for the life of an object."""
    changing = site.kind(made.sample).changing_outputs
    return {name: value for name, value in made.outputs.items() if name not in changing}


def _with_unknowns(spec: type[BaseModel], values: Mapping[str, Tree]) -> Iterable[Mapping[str, Tree]]:
    """Yield `values` with each input unknown that the layout may fill with a reference."""
    for name, value in values.items():
        for unknown in _unknown_forms(value):
            tree = {**values, name: unknown}
            try:
                spec.model_validate(tree)
            except ValidationError:
                continue  # a plain field: it is always known
            yield tree


def _unknown_forms(value: Tree) -> Iterable[Tree]:
    yield UNKNOWN
    if (items := as_sequence(value)) is not None:
        yield from ([*items[:index], UNKNOWN, *items[index + 1 :]] for index in range(len(items)))
