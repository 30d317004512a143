"""The number formats: every one on every class of GPU."""

from __future__ import annotations

from typing import Any

import pytest

from llmdeploy.diagnostics import Diagnostic
from llmdeploy.errors import StackError
from llmdeploy.machine import Gpu
from llmdeploy.manifest import ModelFacts
from llmdeploy.serving import Quantization
from llmdeploy.serving.checkpoint import checkpoint
from llmdeploy.serving.vllm import VLLM
from llmdeploy.serving.vllm_quant import FORMATS
from tests.serving.gpus import A10G, A100, B200, H100, L4, MI300X, RTX5090, T4, V100
from tests.serving.tiny_models import LLAMA

VARIANTS = {name: f"org/model-{name}" for name in ("fp8", "int8", "nvfp4", "awq", "gptq", "int4", "mxfp4")}

PLAIN = ModelFacts("org/model", LLAMA)
"""A 16-bit model of which nobody holds another form."""

SERVED = ModelFacts("org/model", LLAMA, variants=VARIANTS)
"""A 16-bit model of which every form is a repository somewhere."""


def quantized(**settings: Any) -> ModelFacts:
    return ModelFacts("org/model", {**LLAMA, "quantization_config": settings})


def compressed(bits: int, kind: str, **weights: Any) -> ModelFacts:
    group = {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, **weights}}
    return quantized(quant_method="compressed-tensors", config_groups={"group_0": group})


FP8_BLOCKS = quantized(quant_method="fp8", activation_scheme="dynamic", weight_block_size=[128, 128])


def finding(error: pytest.ExceptionInfo[StackError]) -> Diagnostic:
    found = error.value.diagnostics[0]
    assert isinstance(found, Diagnostic)
    return found


CLASSES = {"t4": T4, "a10g": A10G, "a100": A100, "l4": L4, "h100": H100, "b200": B200, "rtx5090": RTX5090}

# yes: the GPU multiplies in the format. 16: it saves memory only, weights are expanded. no: refused.
MATRIX = """
                  t4   a10g a100 l4   h100 b200 rtx5090
    bf16          no   yes  yes  yes  yes  yes  yes
    fp16          yes  yes  yes  yes  yes  yes  yes
    fp8           16   16   16   yes  yes  yes  yes
    fp8_per_tensor 16  16   16   yes  yes  yes  yes
    fp8_per_channel 16 16   16   yes  yes  yes  yes
    fp8_per_block no   no   no   yes  yes  yes  yes
    int8          yes  yes  yes  yes  yes  no   no
    awq           16   16   16   16   16   16   16
    gptq          16   16   16   16   16   16   16
    int4          16   16   16   16   16   16   16
    mxfp4         no   16   16   16   16   16   16
    nvfp4         16   16   16   16   16   yes  yes
"""

ROWS = [line.split() for line in MATRIX.strip().splitlines()]
CELLS = [(row[0], name, cell) for row in ROWS[1:] for name, cell in zip(ROWS[0], row[1:], strict=True)]


def test_the_matrix_has_every_format() -> None:
    assert {row[0] for row in ROWS[1:]} == set(FORMATS)


@pytest.mark.parametrize(("quant", "gpu", "cell"), CELLS)
def test_every_format_on_every_class_of_gpu(quant: str, gpu: str, cell: str) -> None:
    if cell == "no":
        with pytest.raises(StackError) as error:
            VLLM.quantize(SERVED, quant, CLASSES[gpu])
        assert "model.quant" in error.value.message
        assert finding(error).hint
        assert quant not in VLLM.quantizations(SERVED, CLASSES[gpu])
        return
    made = VLLM.quantize(SERVED, quant, CLASSES[gpu])
    assert made.native is (cell == "yes")
    if cell == "16":
        assert made.compute == ("fp16" if gpu == "t4" else "bf16")
        assert any("multiplied as" in note for note in made.notes)
    assert quant in VLLM.quantizations(SERVED, CLASSES[gpu])


@pytest.mark.parametrize(
    ("quant", "compute"),
    [("bf16", "bf16"), ("fp16", "fp16"), ("fp8", "fp8"), ("fp8_per_block", "fp8"), ("int8", "int8"), ("nvfp4", "bf16")],
)
def test_what_an_h100_multiplies_in(quant: str, compute: str) -> None:
    assert VLLM.quantize(SERVED, quant, H100).compute == compute


def test_where_each_form_comes_from() -> None:
    def made(quant: str) -> Quantization:
        return VLLM.quantize(SERVED, quant, H100)

    assert (made("bf16").made, made("bf16").repository, made("bf16").flag) == ("published", "", "")
    assert (made("awq").made, made("awq").repository, made("awq").flag) == ("variant", "org/model-awq", "")
    assert (made("fp8_per_tensor").made, made("fp8_per_tensor").flag) == ("load", "fp8_per_tensor")
    assert "while it loads" in made("fp8_per_tensor").notes[0]


def test_int4_is_any_repository_with_4_bit_whole_numbers() -> None:
    only = ModelFacts("m", LLAMA, variants={"gptq": "org/gptq"})
    assert VLLM.quantize(only, "int4", L4).repository == "org/gptq"


# --- which repository, which pair -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "quant", "gpu", "sentence", "hint"),
    [
        (
            PLAIN,
            "fp8",
            H100,
            "fp8 is a format of checkpoints, and the checkpoint is not quantized",
            "quant: fp8_per_tensor is made at",
        ),
        (PLAIN, "awq", H100, "vLLM does not make awq at load", "in model.variant; there is fp8_per_tensor: made at load"),
        (
            ModelFacts("m", LLAMA, variants={"fp8": "o/fp8"}),
            "awq",
            H100,
            "does not make awq",
            "there is fp8: o/fp8, fp8_per_tensor",
        ),
        (PLAIN, "int8", B200, "no int8 kernels for compute capability 10.0 or more, and NVIDIA B200 has 10.0", "fp8_per_tensor"),
        (PLAIN, "bf16", T4, "bfloat16 needs compute capability 8.0 or more, and NVIDIA T4 has 7.5", "quant: fp16"),
        (PLAIN, "fp8_per_block", A100, "FP8 with scales of blocks needs compute capability 8.9", "quant: fp8_per_tensor"),
        (FP8_BLOCKS, "auto", A100, "FP8 with scales of blocks needs compute capability 8.9", "a GPU that can"),
        (PLAIN, "gguf", H100, "gguf is served by a plugin only", "one of: auto bf16"),
        (PLAIN, "bitsandbytes", H100, "bitsandbytes is served by a plugin only", "one of: auto bf16"),
        (PLAIN, "fp7", H100, "fp7 is no format that vLLM knows", "one of: auto bf16"),
        (PLAIN, "auto", MI300X, "AMD MI300X is no NVIDIA GPU", ""),
        (PLAIN, "auto", V100, "vLLM needs compute capability 7.5 or more, and NVIDIA V100 has 7.0", ""),
        (
            quantized(quant_method="bitsandbytes"),
            "auto",
            H100,
            'with "bitsandbytes", which is served by a plugin',
            "another",
        ),
        (quantized(quant_method="fbgemm_fp8"), "auto", H100, "a format that vLLM has given up", "another"),
        (quantized(quant_method="quark"), "auto", H100, '"quark", which is not known here', "another"),
        (
            quantized(quant_method="awq"),
            "bf16",
            H100,
            'quantized with "awq" and cannot be served as bf16',
            "leave model.quant out",
        ),
        (quantized(quant_method="awq"), "fp8_per_tensor", H100, "cannot be served as fp8_per_tensor", "serve it as awq"),
    ],
)
def test_wrong_pairs_are_told_with_the_nearest_right_one(
    model: ModelFacts, quant: str, gpu: Gpu, sentence: str, hint: str
) -> None:
    with pytest.raises(StackError) as error:
        VLLM.quantize(model, quant, gpu)
    assert sentence in error.value.message
    assert hint in finding(error).hint
    assert finding(error).path == "model.quant"


def test_a_quantized_checkpoint_may_have_another_form_elsewhere() -> None:
    model = ModelFacts("m", FP8_BLOCKS.config, variants={"awq": "org/awq"})
    assert VLLM.quantize(model, "awq", A100).repository == "org/awq"
    with pytest.raises(StackError) as error:
        VLLM.quantize(model, "auto", A100)
    assert "there is awq: org/awq" in finding(error).hint


def test_automatic_is_what_is_published() -> None:
    assert VLLM.quantize(PLAIN, "auto", H100).name == "bf16"
    assert VLLM.quantize(FP8_BLOCKS, "auto", H100).name == "fp8"
    assert VLLM.quantize(ModelFacts("m", {**LLAMA, "dtype": "float16"}), "auto", H100).name == "fp16"
    old = VLLM.quantize(PLAIN, "auto", T4)
    assert (old.name, old.compute) == ("fp16", "fp16")
    assert "served as float16" in old.notes[0]


def test_an_fp8_repository_on_an_old_gpu_comes_with_a_warning_of_blocks() -> None:
    assert any("of blocks" in note for note in VLLM.quantize(SERVED, "fp8", A100).notes)


# --- checkpoints ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "name", "size"),
    [
        (PLAIN, "bf16", 2.0),
        (ModelFacts("m", {"torch_dtype": "float32"}), "bf16", 2.0),
        (quantized(quant_method="fp8"), "fp8", 1.0),
        (FP8_BLOCKS, "fp8", 1.0 + 4 / 16384),
        (quantized(quant_method="awq", bits=4, group_size=128, zero_point=True), "awq", 0.5 + 2.5 / 128),
        (quantized(quant_method="gptq", bits=4, group_size=128, sym=True), "gptq", 0.5 + 2 / 128),
        (quantized(quant_method="gptq", bits=8, group_size=-1, sym=True), "gptq", 1.0),
        (quantized(quant_method="mxfp4"), "mxfp4", 0.53125),
        (quantized(quant_method="modelopt", quant_algo="NVFP4"), "nvfp4", 0.5625),
        (quantized(quant_algo="FP8"), "fp8", 1.0),
        (compressed(8, "float", strategy="channel"), "fp8", 1.0),
        (compressed(8, "float", strategy="block"), "fp8", 1.0 + 4 / 16384),
        (compressed(8, "int", strategy="channel"), "int8", 1.0),
        (compressed(4, "int", group_size=128, symmetric=True), "int4", 0.515625),
        (compressed(4, "float", group_size=16), "nvfp4", 0.5625),
        (ModelFacts("m", {"text_config": {"quantization_config": {"quant_method": "fp8"}}}), "fp8", 1.0),
    ],
)
def test_what_a_checkpoint_holds(model: ModelFacts, name: str, size: float) -> None:
    found = checkpoint(model.config)
    assert (found.name, found.bytes) == (name, pytest.approx(size))


FP8_CACHE = {"num_bits": 8, "type": "float", "dynamic": False}


def test_a_cache_that_the_engine_does_not_read_as_fp8_is_as_wide_as_the_model() -> None:
    settings: dict[str, Any] = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    for scheme in ({"num_bits": 8, "type": "float"}, {**FP8_CACHE, "dynamic": True}, {**FP8_CACHE, "type": "int"}):
        assert VLLM.quantize(quantized(**settings, kv_cache_scheme=scheme), "auto", L4).kv_bytes == 2
    for asked in ({"kv_cache_quant_algo": "NVFP4"}, {"kv_cache_scheme": {"num_bits": 4, "type": "float"}}):
        with pytest.raises(StackError, match="asks for an NVFP4 KV cache, whose size is not known"):
            VLLM.quantize(quantized(**settings, **asked), "auto", L4)


@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": FP8_CACHE},
        {"quant_method": "modelopt", "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}},
        {
            "quant_method": "compressed-tensors",
            "kv_cache_scheme": {"num_bits": 8},
            "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
        },
    ],
)
def test_a_checkpoint_may_ask_for_an_fp8_cache_which_old_gpus_do_not_have(settings: dict[str, Any]) -> None:
    assert VLLM.quantize(quantized(**settings), "auto", L4).kv_bytes == 1
    with pytest.raises(StackError, match=r"FP8 KV cache, which needs compute capability 8.9"):
        VLLM.quantize(quantized(**settings), "auto", A100)


# --- CPU ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "quant", "words"),
    [
        (PLAIN, "auto", ""),
        (PLAIN, "bf16", ""),
        (quantized(quant_method="awq"), "auto", ""),
        (quantized(quant_method="gptq"), "gptq", ""),
        (compressed(8, "int"), "int8", ""),
        (compressed(8, "float"), "auto", 'with "compressed-tensors" (fp8), for which the CPU build of vLLM has no kernels'),
        (quantized(quant_method="fp8"), "auto", 'with "fp8" (fp8), for which the CPU build of vLLM has no kernels'),
        (quantized(quant_method="awq"), "bf16", 'quantized with "awq" and cannot be served as bf16'),
        (PLAIN, "fp8", "no kernels for fp8"),
        (PLAIN, "fp8_per_tensor", "no kernels for fp8_per_tensor"),
        (PLAIN, "nvfp4", "no kernels for nvfp4"),
        (PLAIN, "awq", "is not quantized: vLLM does not make awq at load"),
        (quantized(quant_method="gptq"), "awq", 'is quantized with "gptq"'),
    ],
)
def test_on_cpu(model: ModelFacts, quant: str, words: str) -> None:
    if not words:
        assert VLLM.quantize(model, quant, None).kv_bytes == 2
        return
    with pytest.raises(StackError) as error:
        VLLM.quantize(model, quant, None)
    assert words in error.value.message
    assert finding(error).hint


def test_formats_are_listed_best_numbers_first() -> None:
    assert VLLM.quantizations(PLAIN, None) == ("bf16", "fp16")
    assert VLLM.quantizations(PLAIN, H100) == ("bf16", "fp16", "fp8_per_channel", "fp8_per_block", "fp8_per_tensor")
    assert VLLM.quantizations(SERVED, H100) == FORMATS
    assert VLLM.quantizations(FP8_BLOCKS, A100) == ()
    assert VLLM.quantizations(PLAIN, MI300X) == ()
