"""Bytes of weights: of the files, of a whole replica, and of the GPU that holds the most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..manifest import Manifest, ModelFacts
from ..serving import stack_error
from ..serving.model import Parallel, Quantization
from .parameters import Layer, Parameters, is_quantized, stored_bytes

_SMALL_FILES = 32 * 2**20
"""Tokenizer and settings beside the weights, where only the weights are known (the largest tokenizers are about so big)."""


@dataclass(frozen=True)
class Weights:
    """Weights of a model in one quantization.

    total: bytes in memory of one whole copy. disk: bytes of the files that are fetched for it. exact: from the size of the
    published files, not from a count.
    """

    parameters: Parameters
    quantization: Quantization
    total: int
    disk: int
    exact: bool

    def on_gpu(self, parallel: Parallel) -> int:
        """Return the bytes on the GPU that holds the most."""
        return round(max(self._stages(parallel, 1.0, table=True)) * self._scale)

    def read_in_a_step(self, parallel: Parallel, requests: int) -> float:
        """Return the bytes that one GPU reads for one step of `requests` requests, experts taken as evenly used.

        The table of embeddings is only looked up in; it counts where it is the output matrix too. An encoder of images rests.
        """
        touched = 1 - (1 - self.parameters.expert_share) ** requests
        return max(self._stages(parallel, touched, table=False)) * self._scale

    @property
    def _scale(self) -> float:
        """What brings the sum of a count to the known bytes."""
        return self.total / sum(self._stages(Parallel(), 1.0, table=True))

    def _stages(self, parallel: Parallel, experts: float, *, table: bool) -> Iterator[float]:
        """Yield the counted bytes on one GPU of each pipeline stage.

        experts: part of them that is counted. table: with what a step of decoding does not read.
        """
        counted, tensor = self.parameters, parallel.tensor
        other = self.quantization.other_bytes
        stages = parallel.stages(len(counted.layers))
        for index, stage in enumerate(stages):
            held = sum(self._layer(counted.layers[layer], tensor, experts) for layer in stage)
            first, last = index == 0, index == len(stages) - 1
            held += counted.vision * other if first and table else 0
            if (first and table) or (last and not counted.head and (not first or not table)):
                held += counted.embedding * other / tensor
            if last:
                held += counted.head * other / tensor
            yield held

    def _layer(self, layer: Layer, tensor: int, experts: float) -> float:
        split = (layer.split + experts * layer.experts) / tensor + layer.kv / min(tensor, self.parameters.kv_heads)
        return (split + layer.whole) * self.quantization.linear_bytes + layer.other * self.quantization.other_bytes


def weights_of(facts: ModelFacts, counted: Parameters, quantization: Quantization, manifest: Manifest | None) -> Weights:
    """Return the weights as they are loaded. Exact where the files are loaded as they are published, else counted."""
    factor = counted.factor
    linear = sum(layer.total - layer.other for layer in counted.layers)
    other = counted.embedding + counted.head + counted.vision + sum(layer.other for layer in counted.layers)
    estimate = round(factor * (linear * quantization.linear_bytes + other * quantization.other_bytes))
    published = file_bytes(facts, manifest)
    disk = _disk(facts, counted, manifest) if quantization.made != "variant" else estimate + _SMALL_FILES
    if quantization.made == "variant" or quantization.flag or published is None:
        return Weights(counted, quantization, estimate, disk, exact=False)
    # Loaded in another width than stored, such as a float32 checkpoint in bfloat16.
    cast = 1.0 if is_quantized(facts.config) else quantization.linear_bytes / stored_bytes(facts.config)
    loaded = estimate / (estimate + factor * counted.idle * quantization.linear_bytes)
    return Weights(counted, quantization, round(published * cast * loaded), disk, exact=True)


def file_bytes(facts: ModelFacts, manifest: Manifest | None) -> int | None:
    """Return the bytes of the published weight files; None when nobody knows them.

    Raises:
        StackError: the files are known and hold no weights.
    """
    if manifest is None:
        return facts.weight_bytes
    found = [file.size_bytes for file in manifest.files if file.path.endswith(".safetensors")]
    if not found:
        raise stack_error("model.id", f"{manifest.location} holds no .safetensors file", hint="other formats can carry code")
    return sum(found)


def _disk(facts: ModelFacts, counted: Parameters, manifest: Manifest | None) -> int:
    if manifest is not None:
        return manifest.size_bytes
    known = facts.weight_bytes or round(counted.total * stored_bytes(facts.config))
    return facts.file_bytes or known + _SMALL_FILES
