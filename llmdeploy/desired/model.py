"""Which checkpoint a stack serves: what is known of it before sizing, and its files once the number format is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from .. import sources
from ..blueprint import Files
from ..catalog import Catalog
from ..catalog.licences import commercial
from ..errors import StackError
from ..manifest import ModelFacts
from ..pins import PinnedModel, Pins
from ..serving import Quantization, stack_error
from ..sources import ResolvedModel
from ..sources.folder import glance
from ..stack.load import Loaded

Network = Literal["on", "sparing", "off"]
"""on: the model's hub is asked for every file that is not pinned. sparing: only about models that the catalogue does not know.
off: nobody is asked anything."""


@dataclass(frozen=True)
class Checkpoint:
    """A model as far as it is known.

    quant: what the stack file asks for, as it concerns this checkpoint. resolved: its files, None before they were looked for.
    repository: where they come from. token: reference to what its server may ask for. notes: sentences for the plan.
    """

    facts: ModelFacts
    quant: str
    resolved: ResolvedModel | None = None
    repository: str = ""
    token: str | None = sources.HUB_TOKEN
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSource:
    """Where a stack's model is looked for: its stack file and pins, the catalogue, the environment, and how far it may ask.

    safetensors_only: weights in another format are refused.
    """

    loaded: Loaded
    pins: Pins | None
    catalog: Catalog
    environ: Mapping[str, str]
    network: Network
    safetensors_only: bool = False

    def known(self) -> Checkpoint:
        """Return what is known before sizing: from the lock file, the catalogue, a folder, or at last the hub.

        Raises:
            StackError: there is no such model, the pin is of another one, or only the hub knows it and may not be asked.
            LlmdeployError: its source cannot be read.
        """
        model, pinned = self.loaded.stack.model, self.pins.model if self.pins else None
        row, facts = self.catalog.model(model.id), self.catalog.facts(model.id)
        holds = _held(facts, model.variant)
        if holds is not None and model.quant not in ("auto", holds):
            raise stack_error("model.quant", f"{model.variant} holds {holds}, not {model.quant}", hint=f"quant: {holds}, or auto")
        if row is None or facts is None or row["hf_id"] is None or (model.variant is not None and holds is None):
            return self._unlisted(pinned)
        if pinned is not None:
            return self._pinned(pinned, facts)
        return Checkpoint(facts, holds or model.quant, repository=row["hf_id"], notes=_notes(model.id, row.get("notes")))

    def chosen(self, before: Checkpoint, quantization: Quantization) -> Checkpoint:
        """Return the checkpoint that is fetched for `quantization`, with its files where they may be looked for."""
        if before.resolved is not None:
            return before
        variant = quantization.repository if quantization.made == "variant" else None
        if self.network != "on":
            return replace(before, repository=variant or before.repository)
        return self._exact(self._resolve(variant, None), quantization.name if quantization.made == "load" else "auto")

    def files(self, checkpoint: Checkpoint, disk_bytes: int) -> Files:
        """Return the files of a checkpoint. disk_bytes: what they are expected to take while nobody has looked."""
        resolved = checkpoint.resolved
        if resolved is None:
            return Files(None, checkpoint.repository, disk_bytes, checkpoint.token, pinned=False)
        manifest = resolved.manifest
        # What llmdeploy writes itself is the same from the same version.
        pinned = manifest.kind == "generated" or (self.pins is not None and self.pins.model == resolved.pin)
        return Files(manifest, manifest.location, manifest.size_bytes, resolved.token, pinned)

    def _pinned(self, pinned: PinnedModel, facts: ModelFacts) -> Checkpoint:
        """Return what the lock file pins. Raises StackError when the stack file asks for other numbers than these files hold."""
        model, variant = self.loaded.stack.model, pinned.variant
        other = model.quant not in ("auto", _held(facts, variant)) if variant else model.quant in facts.variants
        if pinned.id == model.id and (other or model.variant not in (None, variant)):
            wanted = model.variant or model.quant
            raise StackError(f"stack.lock.yaml pins {pinned.location}, which does not hold {wanted}", hint=_LOCK)
        return self._exact(self._resolve(variant, pinned), "auto" if variant else model.quant)

    def _unlisted(self, pinned: PinnedModel | None) -> Checkpoint:
        """Return a model that the catalogue does not know: of a folder, a hub, or one that llmdeploy writes."""
        if (seen := self._glanced(pinned)) is not None:
            return seen
        self._refuse_asking(pinned)
        model = self.loaded.stack.model
        return self._exact(self._resolve(model.variant, pinned), model.quant)

    def _exact(self, resolved: ResolvedModel, quant: str) -> Checkpoint:
        """Return the checkpoint of files that are known; nothing else than these files is loaded, so it has no variants."""
        files = resolved.manifest.files
        weights = [file.size_bytes for file in files if file.path.endswith(_WEIGHTS)]
        facts = self.catalog.facts(self.loaded.stack.model.id)
        known = facts or ModelFacts(self.loaded.stack.model.id, resolved.config)
        exact = replace(
            known,
            config=resolved.config,
            weight_bytes=sum(weights),
            file_bytes=resolved.manifest.size_bytes,
            variants={},
            license=resolved.license or known.license,
            commercial=_commercial(resolved.license, known),
            gated=resolved.gated or known.gated,
        )
        return Checkpoint(exact, quant, resolved, resolved.manifest.location, resolved.token, resolved.notes)

    def _glanced(self, pinned: PinnedModel | None) -> Checkpoint | None:
        """Return what a folder tells without its digests, where nobody needs them, or without its weights, where it has none."""
        source = self.loaded.stack.model.variant or self.loaded.stack.model.id
        place = sources.folder_of(source, self.loaded.folder)
        if self.network == "on" or pinned is not None or place is None:
            return None
        seen = glance(place)
        if seen.whole and self.network == "off":
            return None
        facts = ModelFacts(self.loaded.stack.model.id, seen.config, seen.weight_bytes, seen.file_bytes)
        return Checkpoint(facts, self.loaded.stack.model.quant, repository=source, token=None)

    def _refuse_asking(self, pinned: PinnedModel | None) -> None:
        model = self.loaded.stack.model
        if self.network == "off" and pinned is None and sources.needs_hub(model.variant or model.id, self.loaded.folder):
            name = model.variant or model.id
            raise StackError(
                f"nothing is known of {name} without asking its hub: it is neither pinned nor in the catalogue",
                hint="run `llmdeploy lock` where there is a network and commit stack.lock.yaml, or leave --offline out",
            )

    def _resolve(self, variant: str | None, pinned: PinnedModel | None) -> ResolvedModel:
        model = self.loaded.stack.model
        return sources.resolve_model(
            model.id,
            catalog=self.catalog,
            revision=model.revision if variant == model.variant else None,
            variant=variant,
            environ=self.environ,
            folder=self.loaded.folder,
            safetensors_only=self.safetensors_only,
            pinned=pinned,
        )


_LOCK = "run `llmdeploy lock`, and commit stack.lock.yaml"
_WEIGHTS = (".safetensors", ".bin")


def _commercial(license: str | None, known: ModelFacts) -> bool | None:
    """Return whether commercial use is allowed: what the catalogue says of the same licence, else what its name tells."""
    return known.commercial if license in (None, known.license) else commercial(license)


def _held(facts: ModelFacts | None, variant: str | None) -> str | None:
    """Return the number format that a repository of the catalogue holds; None for any other repository."""
    variants: Mapping[str, str] = facts.variants if facts else {}
    return next((name for name, repository in variants.items() if repository == variant), None)


def _notes(model_id: str, note: str | None) -> tuple[str, ...]:
    return (f"{model_id}: {note}",) if note else ()
