"""Roofline: how fast a model can be on a kind of GPU, as a planning value and as the bound that physics sets.

A step of decoding reads every weight that it uses and the KV cache of every request once, and multiplies each request with each
active weight; whichever takes longer sets the time. The bound takes all of the bandwidth and all of the arithmetic, and no time
between steps. The planning value takes the parts of them below, which are experience, not measurements of these machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..machine import Gpu
from ..serving.model import Parallel
from .model import Range, Throughput
from .weights import Weights

BANDWIDTH_PART: Final = 0.7
"""Part of the memory bandwidth that decoding reaches. Calibrated: a published 1,100 to 1,200 tokens per second of a 70B model in
bfloat16 on four A100 at 32 in flight; the model gives 1,134."""

ARITHMETIC_PART: Final = 0.5
"""Part of the arithmetic that a long prompt reaches (unverified)."""

STEP_S: Final = 0.002
"""Time between two steps on one GPU, or over NVLink (unverified)."""

PCIE_STEP_S: Final = 0.005
"""The same where GPUs exchange every layer's result over PCIe (unverified)."""


@dataclass(frozen=True)
class _Regime:
    """How much of the hardware is reached: parts of bandwidth and arithmetic, and seconds lost in each step."""

    bandwidth: float
    arithmetic: float
    step_s: float


_BOUND: Final = _Regime(1.0, 1.0, 0.0)


@dataclass(frozen=True)
class Roofline:
    """One replica on one kind of GPU.

    kv_bytes: that one GPU reads for the next token of one request at the context that is asked about. attention: floating-point
    operations between the tokens of a prompt of that context.
    """

    weights: Weights
    parallel: Parallel
    gpu: Gpu
    kv_bytes: int
    context: int
    attention: float

    def decode(self, requests: int) -> Range:
        """Return the output tokens per second of `requests` requests together."""
        return Range(self._decode(requests, self._planning), self._decode(requests, _BOUND))

    def prefill(self) -> Range:
        """Return the tokens of prompts per second that can be read in."""
        work = 2 * self.weights.parameters.in_layers
        return Range(*(self._flops * one.arithmetic * self.parallel.gpus / work for one in (self._planning, _BOUND)))

    def first_token_s(self) -> Range:
        """Return the seconds until a prompt of full context is answered, with nobody else there.

        The planning value has the attention over the prompt in it, which grows with its square; the bound has not.
        """
        attention_s = self.attention / (self._wide_flops * ARITHMETIC_PART * self.parallel.gpus)
        one, prefill = self.decode(1), self.prefill()
        return Range(
            self.context / prefill.planning + attention_s + 1 / one.planning, max(self.context / prefill.bound, 1 / one.bound)
        )

    def throughput(self, requests: int) -> Throughput:
        """Return all predictions for `requests` requests at once."""
        return Throughput(requests, self.decode(requests), self.decode(1), self.prefill(), self.first_token_s())

    def _decode(self, requests: int, regime: _Regime) -> float:
        # Stages of a pipeline work on different requests at the same time; a request that is alone passes one after the other.
        stages = self.parallel.pipeline
        each = requests / min(stages, requests)
        read = self.weights.read_in_a_step(self.parallel, max(1, round(each))) + each * self.kv_bytes
        work = 2 * self.weights.parameters.multiplied * each / self.parallel.gpus
        step_s = max(read / (self.gpu.bandwidth * regime.bandwidth), work / (self._flops * regime.arithmetic)) + regime.step_s
        return requests / (stages * step_s)

    @property
    def _planning(self) -> _Regime:
        slow = self.parallel.tensor > 1 and not self.gpu.link
        return _Regime(BANDWIDTH_PART, ARITHMETIC_PART, PCIE_STEP_S if slow else STEP_S)

    @property
    def _flops(self) -> float:
        return self.gpu.flops.get(self.weights.quantization.compute) or self._wide_flops

    @property
    def _wide_flops(self) -> float:
        """Operations per second in 16 bits, in which attention is computed whatever the weights are."""
        return self.gpu.flops.get("bf16") or self.gpu.flops["fp16"]


def predicts(gpu: Gpu) -> bool:
    """Whether enough is known of a GPU to predict anything."""
    return gpu.bandwidth > 0 and bool(gpu.flops.get("bf16") or gpu.flops.get("fp16"))
