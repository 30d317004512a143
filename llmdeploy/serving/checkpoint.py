"""In which number format the published weights of a model are, read from config.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ..manifest import ModelConfig
from ..resource import as_mapping

BLOCK_SCALES: Final = 4 / (128 * 128)
"""Bytes per parameter of 32-bit scales, one for each square block."""

STORED: Final[Mapping[str, float]] = {
    "fp8": 1.0,
    "int8": 1.0,
    "nvfp4": 0.5 + 1 / 16,
    "mxfp4": 0.5 + 1 / 32,
    "awq": 0.5 + 2 / 128 + 0.5 / 128,
    "gptq": 0.5 + 2 / 128,
    "int4": 0.5 + 2 / 128,
}
"""Formats of quantized checkpoints -> bytes per parameter with scales, in groups of 128 where the format does not fix them."""


@dataclass(frozen=True)
class Checkpoint:
    """What the published weights are.

    name: format as in a stack file ("bf16" also for 32-bit floats, which are served so), "" where it is not known; problem says
    why. method: as config.json calls it, "" for plain floats. bytes: per quantized parameter. blocks: one scale for each square
    block instead of each tensor or channel. group: parameters in a row with one scale, 0 without. kv_bytes: of one number of the
    KV cache that the checkpoint asks for.
    """

    name: str
    method: str = ""
    bytes: float = 2.0
    blocks: bool = False
    group: int = 0
    kv_bytes: int = 2
    problem: str = ""

    @property
    def quantized(self) -> bool:
        """Whether the weights are not plain floats."""
        return bool(self.method)


def checkpoint(config: ModelConfig) -> Checkpoint:
    """Return what a decoded config.json says of the published weights."""
    text = as_mapping(config.get("text_config")) or {}
    for place in (config, text):
        for name in ("quantization_config", "compression_config"):
            found = as_mapping(place.get(name))
            if found:
                return _quantized(found)
    dtype = next((place[name] for place in (text, config) for name in ("dtype", "torch_dtype") if place.get(name)), "")
    return Checkpoint("fp16" if dtype == "float16" else "bf16")


def _quantized(found: Mapping[str, Any]) -> Checkpoint:
    method = str(found.get("quant_method") or _nvidia_name(found)).lower().replace("compressed_tensors", "compressed-tensors")
    read = _READERS.get(method)
    made = (
        read(found) if read else Checkpoint("", problem=f'the checkpoint is quantized with "{method}", which is not known here')
    )
    return replace(made, method=method or "unknown")


def _nvidia_name(found: Mapping[str, Any]) -> str:
    """Older files of NVIDIA's ModelOpt have no quant_method."""
    inner = as_mapping(found.get("quantization")) or {}
    producer = as_mapping(found.get("producer")) or {}
    return "modelopt" if producer.get("name") == "modelopt" or "quant_algo" in inner or "quant_algo" in found else ""


def _fp8(found: Mapping[str, Any]) -> Checkpoint:
    return _eight_bit_float(blocks=bool(found.get("weight_block_size")))


def _awq(found: Mapping[str, Any]) -> Checkpoint:
    bits, group = _whole(found, "bits", "w_bit", default=4), _whole(found, "group_size", "q_group_size", default=128)
    return _integers("awq", bits, group, zeros=bool(found.get("zero_point", True)))


def _gptq(found: Mapping[str, Any]) -> Checkpoint:
    bits, group = _whole(found, "bits", default=4), _whole(found, "group_size", default=128)
    return _integers("gptq", bits, group, zeros=not found.get("sym", True))


def _mxfp4(found: Mapping[str, Any]) -> Checkpoint:
    del found
    return Checkpoint("mxfp4", bytes=STORED["mxfp4"], group=32)


def _nvidia(found: Mapping[str, Any]) -> Checkpoint:
    inner = as_mapping(found.get("quantization")) or {}
    algorithm = str(found.get("quant_algo") or inner.get("quant_algo") or "").upper()
    cache = _nvidia_cache((inner, found))
    if cache == "nvfp4":
        return Checkpoint("", problem="the checkpoint asks for an NVFP4 KV cache, whose size is not known here")
    kv_bytes = 1 if cache == "fp8" else 2
    if algorithm == "NVFP4" or found.get("quant_method") == "modelopt_fp4":
        return Checkpoint("nvfp4", bytes=STORED["nvfp4"], group=16, kv_bytes=kv_bytes)
    if algorithm in ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO"):
        return replace(_eight_bit_float(blocks=algorithm == "FP8_PB_WO"), kv_bytes=kv_bytes)
    return Checkpoint("", problem=f'the checkpoint is quantized by ModelOpt as "{algorithm}", which is not known here')


def _nvidia_cache(places: Sequence[Mapping[str, Any]]) -> str:
    """Return the number format of the KV cache as vLLM reads it (`get_kv_cache_quant_algo_string`); others: as the model's."""
    names = ("kv_cache_scheme", "kv_cache_quant_algo")
    asked = next((place[name] for name in names for place in places if place.get(name)), "")
    scheme = as_mapping(asked)
    if scheme is None:
        return str(asked).lower()
    if scheme.get("type") == "float" and scheme.get("num_bits") == 8 and scheme.get("dynamic") is False:
        return "fp8"
    return "nvfp4" if scheme.get("type") == "float" and scheme.get("num_bits") == 4 else ""


def _compressed(found: Mapping[str, Any]) -> Checkpoint:
    """The first group of `config_groups` that says how weights are stored."""
    groups = (as_mapping(found.get("config_groups")) or {}).values()
    listed = [as_mapping((as_mapping(group) or {}).get("weights")) for group in groups]
    weights = next((entry for entry in listed if entry), None)
    if weights is None:
        return Checkpoint("", problem="quantization_config of the checkpoint has no config_groups with weights")
    made = _compressed_weights(weights, str(found.get("format", "")))
    return replace(made, kv_bytes=1 if as_mapping(found.get("kv_cache_scheme")) else 2)


def _compressed_weights(weights: Mapping[str, Any], layout: str) -> Checkpoint:
    bits, kind = _whole(weights, "num_bits", default=0), str(weights.get("type", "int"))
    group = max(0, _whole(weights, "group_size", default=0))
    if (bits, kind) == (8, "float"):
        return _eight_bit_float(blocks=weights.get("strategy") == "block")
    if (bits, kind) == (8, "int"):
        return Checkpoint("int8", bytes=STORED["int8"], group=group)
    if (bits, kind) == (4, "int"):
        return _integers("int4", bits, group, zeros=not weights.get("symmetric", True))
    if (bits, kind) == (4, "float"):
        name = "mxfp4" if "mxfp4" in layout or group == 32 else "nvfp4"
        return Checkpoint(name, bytes=STORED[name], group=32 if name == "mxfp4" else 16)
    return Checkpoint("", problem=f"the checkpoint holds {bits}-bit {kind} weights, which are not known here")


def _eight_bit_float(*, blocks: bool) -> Checkpoint:
    return Checkpoint("fp8", bytes=1.0 + (BLOCK_SCALES if blocks else 0.0), blocks=blocks, group=128 if blocks else 0)


def _integers(name: str, bits: int, group: int, *, zeros: bool) -> Checkpoint:
    """Whole numbers with a 16-bit scale for each group, and a zero point where they are not symmetric."""
    scales = (2 + (bits / 8 if zeros else 0)) / group if group > 0 else 0.0
    return Checkpoint(name, bytes=bits / 8 + scales, group=max(0, group))


def _whole(found: Mapping[str, Any], *names: str, default: int) -> int:
    return next((value for name in names if isinstance(value := found.get(name), int)), default)


_READERS: Final = {
    "fp8": _fp8,
    **dict.fromkeys(("awq", "auto_awq", "awq_marlin"), _awq),
    **dict.fromkeys(("gptq", "auto_gptq", "gptq_marlin"), _gptq),
    "mxfp4": _mxfp4,
    **dict.fromkeys(("modelopt", "modelopt_fp4"), _nvidia),
    "compressed-tensors": _compressed,
}
