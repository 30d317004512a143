"""The weights of a model on a machine's volume: fetched or copied, verified, and put into place as a whole."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import urlsplit

from llmdeploy.sdk import (
    EVIDENCE,
    CommandFailed,
    Context,
    DataFlow,
    Drift,
    Identity,
    Input,
    LlmdeployError,
    Manifest,
    NotDiffed,
    Operation,
    OperationResult,
    Outputs,
    PlannedChange,
    Prior,
    Problem,
    ReadResult,
    ReplaceWith,
    Run,
    SecretError,
    SecretRef,
    Timeouts,
    Traits,
    Tree,
    has_unknown,
    observed,
)

from ._connection import HostSpec, Paths
from ._evidence import Question, ask, flag, private_question, words
from ._host_type import HostType, parse_facts
from ._scripts import render
from ._servers import HUB
from ._session import session

STATUS: Final = {"disk": 71, "volume": 72, "denied": 73, "gone": 74, "wrong": 75, "network": 76}
"""Exit statuses of the script whose last line on standard error is a sentence for people."""

_HINTS: Final = {
    STATUS["disk"]: "free some disk; what has come so far is kept",
    STATUS["volume"]: "run `llmdeploy plan`: the volume is repaired first",
    STATUS["denied"]: "accept the model's licence on its page, and export a token that may read it as HF_TOKEN",
    STATUS["gone"]: "run `llmdeploy lock` to see what is there now",
    STATUS["wrong"]: "run `llmdeploy lock` if the model was changed on purpose; else its source or the network is broken",
    STATUS["network"]: "run the same command again: it goes on where it stopped",
}
_MARGIN_BYTES: Final = 32 * 2**20
_SENTENCES: Final = {
    "missing": "{}: is missing",
    "size": "{}: content differs (it has another size)",
    "content": "{}: content differs",
    "rights": "{}: owner or rights differ",
    "extra": "{}: is not part of the model",
}
_TOKEN_MAY_GO: Final = re.compile(r"(https://|http://(localhost|127(\.\d+){3}|\[::1\])[:/])[^@]*\Z")


class WeightsSpec(HostSpec):
    """volume: where it is mounted. user: who alone may read the files. manifest: what there is to be (a `Manifest`).

    A model that no lock file pins can be planned before its files are known: then the manifest is unknown, and repository says
    where they will come from.

    token: reference to what a server may ask for; where it cannot be resolved, the files are asked for without. pinned: the lock
    file names this manifest.
    """

    volume: Annotated[Input[str], ReplaceWith("the volume under it is replaced")]
    user: Input[str]
    manifest: Input[dict[str, Any]]
    token: Annotated[SecretRef | None, NotDiffed()] = None
    pinned: Annotated[bool, NotDiffed()] = False
    repository: Annotated[str, NotDiffed()] = ""

    @property
    def files(self) -> Manifest:
        """The manifest, decoded."""
        return Manifest.model_validate(self.manifest)


class WeightsOutputs(Outputs):
    """path: the folder of the files. digest: of the manifest (SHA-256, hex)."""

    path: str
    digest: str
    size_bytes: int


class Weights(HostType[WeightsSpec, WeightsOutputs]):
    """Files of one model."""

    name: ClassVar[str] = "host_weights"
    spec = WeightsSpec
    outputs = WeightsOutputs
    timeouts: ClassVar[Timeouts] = Timeouts(create_s=24 * 3600, update_s=24 * 3600, delete_s=1800)
    holds_data: ClassVar[bool] = True

    def __init__(self) -> None:
        self.operations: Mapping[str, Operation] = {"verify": self._verify, EVIDENCE: _look}

    def create(self, ctx: Context, spec: WeightsSpec) -> WeightsOutputs:
        """Bring what is not there yet."""
        return self._bring(ctx, spec, trusted=True)

    def update(self, ctx: Context, prior: Prior, spec: WeightsSpec) -> WeightsOutputs:
        """Bring what changed; a file that was found differing is not taken on its time of change."""
        return self._bring(ctx, spec, trusted=not any(drift.field == "content" for drift in prior.drift))

    def _bring(self, ctx: Context, spec: WeightsSpec, *, trusted: bool) -> WeightsOutputs:
        manifest = spec.files
        ctx.acked(f"{spec.volume}/weights")
        script = weights_script(spec.volume, spec.user, manifest, trusted=trusted)
        ctx.step(f"weights:{manifest.digest}", lambda: self._run(ctx, spec, script))
        return WeightsOutputs(path=f"{spec.volume}/weights", digest=manifest.digest, size_bytes=manifest.size_bytes)

    def _run(self, ctx: Context, spec: WeightsSpec, script: str) -> None:
        try:
            self.script(ctx, spec, script, stdin=_stdin(ctx.run, spec))
        except CommandFailed as error:
            if error.status not in _HINTS:
                raise
            sentence = error.tail.splitlines()[-1] if error.tail else error.message
            hint = _HINTS[error.status]
            raise CommandFailed(sentence, status=error.status, tail=error.tail, hint=hint) from None

    def delete(self, ctx: Context, prior: Prior) -> None:
        """Remove the files and what a killed run left."""
        spec = prior.spec_as(WeightsSpec)
        self.script(ctx, spec, render("weights_delete.sh.j2", volume=spec.volume))

    def plan(self, prior: Prior | None, values: Mapping[str, Tree]) -> PlannedChange:
        """Judge by content: it is no change when only the address of a mirror differs."""
        before = None if prior is None else replace(prior, spec=_content(prior.spec))
        change = super().plan(before, _content(values))
        if change.action == "no-op":
            return change
        wanted = _manifest(values)
        if wanted is None:
            return replace(change, details=(f"downloads {_origin(values)}, each file verified by its SHA-256",))
        held = prior.spec["manifest"] if prior is not None and prior.exists and change.action == "update" else None
        return replace(change, details=tuple(_details(wanted, held)))

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """Everything follows from manifest and volume."""
        del identity
        manifest, known = _manifest(values), dict[str, Tree]()
        if manifest is not None:
            known |= {"digest": manifest.digest, "size_bytes": manifest.size_bytes}
        return known if has_unknown(values["volume"]) else known | {"path": f"{values['volume']}/weights"}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Every file is verified by its digest; pinned is what the lock file names; files come from the servers named.

        Files that llmdeploy writes or copies from a folder come from nobody.
        """
        manifest = _manifest(values)
        if manifest is None:
            flow = DataFlow(what=_ASKS, to=HUB)
            return Traits(in_transit="encrypted", data_flows=(flow,), pinned=False, intact=True, private=True)
        files = manifest.files
        encrypted = all((file.url or "https:").startswith("https:") for file in files)
        transit = "local" if not any(file.url for file in files) else "encrypted" if encrypted else "plain"
        pickles = ("the weights are Python pickles, which can run code when they are loaded",)
        formats = tuple(sorted({name for file in files if (name := format_of(file.path))}))
        servers = dict.fromkeys(urlsplit(file.url).hostname or "" for file in files if file.url)
        flows = tuple(DataFlow(what=_ASKS, to=server) for server in servers)
        return Traits(
            in_transit=transit,
            data_flows=flows,
            pinned=bool(values.get("pinned")),
            formats=formats,
            intact=True,
            private=True,
            notes=pickles if "pickle" in formats else (),
        )

    def probe(self, paths: Paths, prior: Prior) -> str:
        """Print what differs from the receipt."""
        del paths
        return probe_script(prior.spec_as(WeightsSpec))

    def observe(self, prior: Prior, facts: Mapping[str, str]) -> ReadResult:
        """They are gone when the volume is there and their receipt is not."""
        if "volume" not in facts:
            return ReadResult(prior.address, error="the weights could not be looked at")
        if facts["volume"] == "no":
            return ReadResult(prior.address, drift=(Drift("volume", "weights: the volume is not mounted"),))
        if "digest" not in facts:
            return ReadResult(prior.address, exists=False)
        return ReadResult(prior.address, drift=tuple(_drift(prior, facts)))

    def preflight(self, run: Run, values: Mapping[str, Tree], prior: Prior | None) -> Sequence[Problem]:
        """Before the first download: there is disk for all, and the server gives the files out."""
        if prior is not None or has_unknown(values["host"]) or has_unknown(values["manifest"]):
            return ()
        volume = Paths.ROOTS[0] if has_unknown(values["volume"]) else values["volume"]
        spec = WeightsSpec.model_validate({**values, "volume": volume, "user": ""})
        output = session(run, spec.host).run(preflight_script(spec), stdin=_curl_config(run, spec))
        return preflight_problems(spec, parse_facts("::resource x\n" + output)["x"])

    def _verify(self, ctx: Context, prior: Prior, arguments: Mapping[str, Tree]) -> OperationResult:
        """Hash every file, whatever the receipt says."""
        del arguments
        spec = prior.spec_as(WeightsSpec)
        output = self.script(ctx, spec, f"(\nset +e\n{probe_script(spec, verify=True)}\n)")
        found = self.observe(prior, parse_facts("::resource x\n" + output)["x"])
        problems = [drift.sentence for drift in found.drift] or ([] if found.exists else ["the weights are not there"])
        return OperationResult({"state": "differs" if problems else "ok", "problems": problems})


def weights_script(volume: str, user: str, manifest: Manifest, *, trusted: bool = True, pause_s: int = 2) -> str:
    """Return the script that makes `volume`/weights what `manifest` says, readable by `user` only.

    trusted: a file whose size, time of change and inode are those of the receipt is not hashed. pause_s: grows with each try.
    """
    files = [(file, f"{file.sha256}.{file.path.replace('/', '_')}") for file in manifest.files]
    return render(
        "weights.sh.j2",
        volume=volume,
        user=user,
        kind=manifest.kind,
        source=manifest.location,
        files=files,
        total=max(1, manifest.size_bytes),
        digest=manifest.digest,
        trusted=trusted,
        status=STATUS,
        margin_bytes=_MARGIN_BYTES,
        report_s=3,
        report_bytes=32 * 10**6,
        stall_s=60,
        tries=6,
        pause_s=pause_s,
    )


def probe_script(spec: WeightsSpec, *, verify: bool = False) -> str:
    """Return the fragment that prints what differs from the receipt. verify: hash every file."""
    return render("weights_probe.sh.j2", volume=spec.volume, user=spec.user, verify=verify)


def files_question(spec: WeightsSpec) -> Question:
    """Return the question whether every file is exactly the manifest's, and what formats they really have."""
    folder = shlex.quote(f"{spec.volume}/weights")
    return Question(
        command=f"cd {folder} && find . -type f -exec sha256sum {{}} +; head -c 9 of each",
        script=render("evidence_weights.sh.j2", volume=spec.volume, files=spec.files.files),
        facts={"intact": flag, "formats": words},
    )


def _look(ctx: Context, prior: Prior, args: Mapping[str, Tree]) -> OperationResult:
    """See whether the files are what the last apply was told to bring, what they are made of, and who else can read them."""
    del args
    spec = prior.spec_as(WeightsSpec)
    private = private_question((f"{spec.volume}/weights",), (str(spec.user),))
    found = ask(ctx, spec.host, (files_question(spec), private))
    # The state names each file by its digest: files that have these are pinned, whatever a plan knew before.
    pinned = [one.model_copy(update={"fact": "pinned"}) for one in found if one.fact == "intact"]
    return observed([*found, *pinned])


def preflight_script(spec: WeightsSpec) -> str:
    """Return the script that looks for disk and asks for one byte of the largest file."""
    largest = max(spec.files.files, key=lambda file: file.size_bytes)
    return render("weights_preflight.sh.j2", folder=spec.volume, url=largest.url)


def preflight_problems(spec: WeightsSpec, facts: Mapping[str, str]) -> Sequence[Problem]:
    """Judge what the preflight script printed."""
    problems: list[Problem] = []
    need, free = spec.files.size_bytes + _MARGIN_BYTES, int(facts["free"])
    if free < need:
        sentence = f"{spec.host.address}: the weights need {need / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free"
        problems.append(Problem(sentence, "free some disk there, or take a smaller or quantized model"))
    status = facts.get("status", "200")
    where = spec.files.location
    if status in ("401", "403"):
        problems.append(Problem(f"{spec.host.address}: the server refuses the files of {where}", _HINTS[STATUS["denied"]]))
    elif status == "404":
        problems.append(Problem(f"{spec.host.address}: the server does not have the files of {where}", _HINTS[STATUS["gone"]]))
    elif status == "000":
        hint = "check its network and the proxy variables of this shell, or copy the model there and name its folder"
        problems.append(Problem(f"{spec.host.address}: the server of {where} cannot be reached from there", hint))
    return problems


def _stdin(run: Run, spec: WeightsSpec) -> bytes:
    manifest = spec.files
    if manifest.kind != "generated":
        return _curl_config(run, spec)
    made = run.generate(manifest.location)
    if any(len(made.get(file.path, b"")) != file.size_bytes for file in manifest.files):
        raise LlmdeployError(
            f"this llmdeploy writes {manifest.location} with other files than were planned",
            hint="run `llmdeploy lock` and plan again",
        )
    return b"".join(made[file.path] for file in manifest.files)


def _curl_config(run: Run, spec: WeightsSpec) -> bytes:
    urls = [file.url for file in spec.files.files if file.url]
    if spec.token is None or not urls or not all(_TOKEN_MAY_GO.match(url) for url in urls):
        return b""
    try:
        token = run.secret(spec.token).reveal()
    except SecretError:
        # Most models are public; a server that wants a token says so, and the hint names it.
        return b""
    if not re.fullmatch(rb"[\x21-\x7e]+", token):
        raise SecretError(f"{spec.token} holds characters that no token has")
    escaped = token.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'header = "Authorization: Bearer ' + escaped + b'"\n'


_FORMATS: Final = {
    **dict.fromkeys(("bin", "pt", "pth", "ckpt", "pkl", "pickle"), "pickle"),
    "safetensors": "safetensors",
    "gguf": "gguf",
}
_ASKS: Final = "requests for the model's files"


def format_of(path: str) -> str:
    """Return the format of the model file `path` by its name, "" for what holds no numbers of the model."""
    return _FORMATS.get(path.rpartition(".")[2].lower(), "")


def _manifest(values: Mapping[str, Tree]) -> Manifest | None:
    """Return the manifest, or None when it is known after apply only."""
    tree = values["manifest"]
    return None if has_unknown(tree) else Manifest.model_validate(tree)


def _origin(values: Mapping[str, Tree]) -> str:
    return f"the files of {values.get('repository') or 'the model'} (known after `llmdeploy lock`)"


def _content(values: Mapping[str, Tree]) -> Mapping[str, Tree]:
    manifest = _manifest(values)
    if manifest is None:
        return values
    files: dict[str, Tree] = {file.path: f"{file.sha256} ({file.size_bytes} bytes)" for file in manifest.files}
    return {**values, "manifest": {"revision": manifest.revision, "files": files}}


def _details(wanted: Manifest, held: Tree) -> Iterable[str]:
    known = {file.sha256 for file in Manifest.model_validate(held).files} if held is not None else set[str]()
    missing = [file for file in wanted.files if file.sha256 not in known]
    if missing:
        verb = {"generated": "writes", "folder": "copies", "hub": "downloads"}[wanted.kind]
        size_gb = sum(file.size_bytes for file in missing) / 1e9
        count = "1 file" if len(missing) == 1 else f"{len(missing)} files"
        yield f"{verb} {count} ({size_gb:.2f} GB) from {wanted.location}, each verified by its SHA-256"


def _drift(prior: Prior, facts: Mapping[str, str]) -> Iterable[Drift]:
    if facts["digest"] != prior.outputs.get("digest"):
        yield Drift("digest", "weights: other files are there than were applied last")
    for key in sorted(facts):
        what, _, path = key.partition(".")
        if what in _SENTENCES:
            yield Drift(what, _SENTENCES[what].format(path or "weights"))


RESOURCE = Weights()
