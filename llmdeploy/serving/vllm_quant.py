"""vLLM's number formats: where each one comes from, and which GPU can do it.

Minimum capabilities are those of 0.32 (`get_min_capability` of each method); which kernel a GPU gets is read from the source and
unverified on GPUs. The parser takes every word for a format, so nothing but this table keeps a wrong pair from failing at load.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from ..errors import StackError
from ..machine import Gpu
from ..manifest import ModelFacts
from .checkpoint import BLOCK_SCALES, STORED, Checkpoint, checkpoint
from .model import Quantization, stack_error

_FLOATS: Final = ("bf16", "fp16")

AT_LOAD: Final = ("fp8_per_channel", "fp8_per_block", "fp8_per_tensor")
"""Formats that vLLM makes of a 16-bit checkpoint while it loads, most exact first; the word is the value of the option."""

_FOUR_BITS: Final = ("int4", "awq", "gptq")
"""Names of one thing, 4-bit whole numbers in groups: who wants `int4` is served with any of them."""

FORMATS: Final = (*_FLOATS, "fp8", *AT_LOAD, "int8", "nvfp4", "awq", "gptq", "int4", "mxfp4")
"""Every format, best numbers first."""

_CPU: Final = ("bf16", "fp16", "int8", "awq", "gptq")
"""Formats for which the CPU build has kernels."""

_PLUGINS: Final = ("gguf", "bitsandbytes")
_GIVEN_UP: Final = ("fbgemm_fp8", "fp_quant")


def quantize(model: ModelFacts, quant: str, gpu: Gpu | None) -> Quantization:
    """Return how `model` is loaded as `quant`; see `Engine.quantize`."""
    published = _published(model, gpu)
    wanted = _automatic(published, gpu) if quant == "auto" else quant
    if wanted not in FORMATS:
        reason = (
            "is served by a plugin only, which is not in vLLM's image" if wanted in _PLUGINS else "is no format that vLLM knows"
        )
        raise _refused(f"{wanted} {reason}", f"one of: auto {' '.join(FORMATS)}")
    reason = unable(wanted, gpu, blocks=published.blocks and wanted == published.name)
    if reason:
        raise _refused(reason, _instead(wanted, model, published, gpu))
    made = _made(wanted, model, published, gpu)
    if gpu is None:
        return replace(made, compute=made.name if made.name in (*_FLOATS, "int8") else "bf16")
    return _on_gpu(made, model, published, gpu)


def quantizations(model: ModelFacts, gpu: Gpu | None) -> tuple[str, ...]:
    """Return the names that `quantize` takes; see `Engine.quantizations`."""

    def taken(name: str) -> bool:
        try:
            quantize(model, name, gpu)
        except StackError:
            return False
        return True

    return tuple(name for name in FORMATS if taken(name))


def unable(name: str, gpu: Gpu | None, *, blocks: bool = False) -> str:
    """Return why the device cannot run a format, "" when it can, even if it only saves memory. blocks: scales are of blocks."""
    if gpu is None:
        return "" if name in _CPU else f"the CPU build of vLLM has no kernels for {name}"
    if gpu.capability is None:
        return f"{gpu.title} is no NVIDIA GPU: this version of llmdeploy serves on CUDA and on CPU only"
    if name == "int8" and gpu.capability >= (10, 0):
        return f"vLLM has no int8 kernels for compute capability 10.0 or more, and {gpu.title} has {_dotted(gpu.capability)}"
    needs, what = (7, 5), "vLLM"
    if name in ("bf16", "mxfp4"):
        needs, what = (8, 0), {"bf16": "bfloat16"}.get(name, name)
    elif blocks or name == "fp8_per_block":
        needs, what = (8, 9), "FP8 with scales of blocks"
    if gpu.capability >= needs:
        return ""
    return f"{what} needs compute capability {_dotted(needs)} or more, and {gpu.title} has {_dotted(gpu.capability)}"


def _published(model: ModelFacts, gpu: Gpu | None) -> Checkpoint:
    """The checkpoint. Raises StackError when nothing can be made of it."""
    found = checkpoint(model.config)
    if found.name and (gpu is not None or not found.quantized or found.name in _CPU):
        return found
    if found.method in _PLUGINS:
        reason = (
            f'the checkpoint is quantized with "{found.method}", which is served by a plugin only that is not in vLLM\'s image'
        )
    elif found.method in _GIVEN_UP:
        reason = f'the checkpoint is quantized with "{found.method}", a format that vLLM has given up'
    elif found.problem:
        reason = found.problem
    else:
        reason = (
            f'the checkpoint is quantized with "{found.method}" ({found.name}), for which the CPU build of vLLM has no kernels'
        )
    raise _refused(reason, _others(model, found, gpu) or "name another repository in model.id")


def _automatic(published: Checkpoint, gpu: Gpu | None) -> str:
    """As published; bfloat16 becomes float16 where the GPU has none, as vLLM's own `auto` does."""
    old = gpu is not None and gpu.capability is not None and gpu.capability < (8, 0)
    return "fp16" if published.name == "bf16" and old else published.name


# --- where the format comes from -----------------------------------------------------------------------------------------------


def _made(wanted: str, model: ModelFacts, published: Checkpoint, gpu: Gpu | None) -> Quantization:
    same = wanted == published.name or (wanted == "int4" and published.name in _FOUR_BITS)
    if published.quantized and same:
        return Quantization(wanted, "published", published.bytes, 2.0, published.kv_bytes, "", native=True)
    if wanted in _FLOATS and not published.quantized:
        # Cast to the other 16-bit format: the same size, and not the numbers that were published.
        return Quantization(wanted, "published" if wanted == published.name else "load", 2.0, 2.0, 2, "", native=True)
    if wanted in AT_LOAD and not published.quantized:
        note = "vLLM makes it while it loads the 16-bit weights: download and disk are those of the published model"
        size = 1.0 + (BLOCK_SCALES if wanted == "fp8_per_block" else 0.0)
        return Quantization(wanted, "load", size, 2.0, 2, "", native=True, flag=wanted, notes=(note,))
    repository = next(_repositories(wanted, model), "")
    if not repository:
        raise _absent(wanted, model, published, gpu)
    return Quantization(wanted, "variant", STORED.get(wanted, 2.0), 2.0, 2, "", native=True, repository=repository)


def _repositories(wanted: str, model: ModelFacts) -> Iterator[str]:
    names = _FOUR_BITS if wanted == "int4" else (wanted,)
    return (model.variants[name] for name in names if model.variants.get(name))


def _absent(wanted: str, model: ModelFacts, published: Checkpoint, gpu: Gpu | None) -> StackError:
    """Return the error that no repository with the wanted format is known, with the nearest one that is."""
    others = _others(model, published, gpu)
    if published.quantized:
        reason = f'the checkpoint is quantized with "{published.method}" and cannot be served as {wanted}'
        hint = f"leave model.quant out to serve it as {published.name}"
        return _refused(reason, f"{hint}; {others}" if others else hint)
    if wanted == "fp8" and gpu is not None:
        hint = "quant: fp8_per_tensor is made at load; or name a repository with fp8 weights in model.variant"
        return _refused("fp8 is a format of checkpoints, and the checkpoint is not quantized", hint)
    hint = f"name a repository with {wanted} weights in model.variant"
    reason = f"the checkpoint is not quantized: vLLM does not make {wanted} at load"
    return _refused(reason, f"{hint}; {others}" if others else hint)


def _instead(wanted: str, model: ModelFacts, published: Checkpoint, gpu: Gpu | None) -> str:
    """The nearest right pair when the device cannot run the wanted format."""
    if gpu is None:
        return f"on CPU: auto {' '.join(_CPU)}"
    if wanted == "bf16" and not unable("fp16", gpu):
        return "quant: fp16 (auto comes to the same there)"
    if wanted == "fp8_per_block" and not unable("fp8_per_tensor", gpu):
        return "quant: fp8_per_tensor"
    return _others(model, published, gpu) or "a GPU that can"


def _others(model: ModelFacts, published: Checkpoint, gpu: Gpu | None) -> str:
    """The repositories that hold formats which the device can run, and what can be made at load."""
    parts = [f"{name}: {model.variants[name]}" for name in FORMATS if model.variants.get(name) and not unable(name, gpu)]
    if not published.quantized and not unable("fp8_per_tensor", gpu):
        parts.append("fp8_per_tensor: made at load")
    return f"there is {', '.join(parts)}" if parts else ""


# --- what the GPU makes of it --------------------------------------------------------------------------------------------------


def _on_gpu(made: Quantization, model: ModelFacts, published: Checkpoint, gpu: Gpu) -> Quantization:
    """Say in which format the GPU multiplies, and what that means."""
    capability = _capability(gpu)
    if made.kv_bytes == 1 and capability < (8, 9):
        reason = "the checkpoint asks for an FP8 KV cache, which needs compute capability 8.9 or more"
        reason = f"{reason}, and {gpu.title} has {_dotted(capability)}"
        raise _refused(reason, _others(model, published, gpu) or "a GPU that can")
    notes = list(made.notes)
    if made.name in _FLOATS:
        if made.name == "fp16" and published.name == "bf16" and capability < (8, 0):
            notes.append(f"{gpu.title} has no bfloat16: the weights are served as float16")
        return replace(made, compute=made.name, notes=tuple(notes))
    multiplied = _native(made.name, capability)
    if multiplied:
        return replace(made, compute=multiplied)
    floats = "fp16" if capability < (8, 0) else "bf16"
    saves = "it saves memory, not computing"
    reason = saves if made.name in (*_FOUR_BITS, "mxfp4") else f"{gpu.title} has no hardware for it, so {saves}"
    notes.append(f"{made.name} weights are multiplied as {floats}: {reason}")
    if made.made == "variant" and made.name == "fp8":
        notes.append(f"if the scales of {made.repository} are of blocks, {gpu.title} cannot run it")
    return replace(made, compute=floats, native=False, notes=tuple(notes))


def _native(name: str, capability: tuple[int, int]) -> str:
    """Return the format in which the GPU multiplies such weights, "" when they are expanded to 16 bits first.

    MXFP4 is expanded everywhere: kernels with 16-bit activations come before the others (`fused_moe/oracle/mxfp4.py`).
    """
    if name.startswith("fp8"):
        return "fp8" if capability >= (8, 9) else ""
    if name == "nvfp4":
        return "fp4" if capability >= (10, 0) else ""
    return "int8" if name == "int8" else ""


def _capability(gpu: Gpu) -> tuple[int, int]:
    return gpu.capability or (0, 0)


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _refused(sentence: str, hint: str) -> StackError:
    return stack_error("model.quant", sentence, hint=hint)
