"""The step of one token for each text, as compiled code: `step.cpp`, compiled once for each kind of processor.

PyTorch needs some two hundred calls for such a step, and each takes some microseconds beside reading its weights. The
compiled step is a single call, which reads weights and cache at the speed of the memory. It needs the weights in the
order of `onednn.py` or `int8.py`, and g++ on Linux. Without them, PyTorch computes the same but for rounding, only more
slowly. See docs/performance.md.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from src.files import ROOT
from src.model.gpt2 import GPT2, Block
from src.model.int8 import BLOCK, Int8Linear
from src.model.kv_cache import KVCache
from src.model.onednn import OneDNNLinear

SOURCE = Path(__file__).with_name("step.cpp")
FOLDER = ROOT / ".compiled"
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC")
LARGEST_BATCH = 64 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 5  # for more, oneDNN is faster
HEAD = 64  # numbers of a head, as in step.cpp, and in GPT-2 of any size
TIME_LIMIT = 60  # seconds for the compiler, which usually takes 2
_INTEGERS = (torch.int64, torch.int32)
TOLERANCE = 0.05  # of the largest logit; in bfloat16, oneDNN rounds more than the compiled step does

Address, Count = ctypes.c_void_p, ctypes.c_int64
_floats = functools.partial(torch.empty, dtype=torch.float32, device="cpu")  # whatever PyTorch's defaults are


class _Linear(ctypes.Structure):
    _fields_ = (
        ("weight", Address),
        ("scale", Address),
        ("bias", Address),
        ("n_in", Count),
        ("n_out", Count),
        ("block_size", Count),
    )


class _Norm(ctypes.Structure):
    _fields_ = (("weight", Address), ("bias", Address))


class _Layer(ctypes.Structure):
    _fields_ = (
        ("ln_1", _Norm),
        ("attn_c_attn", _Linear),
        ("attn_c_proj", _Linear),
        ("ln_2", _Norm),
        ("mlp_c_fc", _Linear),
        ("mlp_c_proj", _Linear),
    )


class _Cache(ctypes.Structure):
    _fields_ = (
        ("key", Address),
        ("value", Address),
        ("text", Count),
        ("head", Count),
        ("token", Count),
        ("length", Count),
    )


class _LayerCache(ctypes.Structure):
    _fields_ = (("prefix", _Cache), ("own", _Cache))


class _Model(ctypes.Structure):
    _fields_ = (
        ("n_layer", Count),
        ("n_embd", Count),
        ("epsilon", ctypes.c_float),
        ("layers", Address),
        ("ln_f", _Norm),
        ("readout", _Linear),
        ("wpe", Address),
    )


def use_compiled_step(model: GPT2, folder: Path = FOLDER) -> bool:
    """Let compiled code compute the steps of `model`, after `use_onednn` or `use_int8`; whether that is possible here.

    Args:
        folder: where the compiled code is kept.
    """
    layers = [module for module in model.modules() if isinstance(module, OneDNNLinear | Int8Linear)]
    if not layers or not all(map(_is_in_blocks, layers)) or _head_dim(model) != HEAD:
        return False
    path = compile_step(folder)
    if path is None:
        return False
    try:
        step = CompiledStep(model, ctypes.CDLL(str(path)))
    except OSError:  # such as: the library in which PyTorch's threads live is not the one that g++ expects
        return False
    if not _agrees(step, model):
        return False
    model.__class__ = _CompiledGPT2  # the same object, so whoever holds it goes on with it
    model.step = step  # type: ignore[assignment]
    for layer in layers:
        if isinstance(layer, Int8Linear):
            layer.__class__ = _CompiledInt8Linear
            layer.step = step  # type: ignore[assignment]
    return True


def compile_step(folder: Path) -> Path | None:
    """The shared library made of `step.cpp` for this processor, compiled if it is not in `folder`; None without g++."""
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        return None
    try:
        version = "".join((SOURCE.read_text(encoding="utf-8"), *FLAGS, _processor()))
        path = folder / f"step-{hashlib.sha256(version.encode()).hexdigest()[:16]}.so"
        if path.exists():
            return path
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            # Linked without libgomp, so that the threads are those that PyTorch has already started.
            compiled, linked = Path(beside, "step.o"), Path(beside, "step.so")
            for arguments in ((*FLAGS, "-c", SOURCE, "-o", compiled), ("-shared", compiled, "-o", linked)):
                subprocess.run((compiler, *arguments), check=True, capture_output=True, timeout=TIME_LIMIT)
            os.replace(linked, path)
    except (OSError, StopIteration, subprocess.SubprocessError):
        return None
    return path


def _processor() -> str:
    """What -march=native depends on: a folder may be shared by several machines."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next(line for line in file if line.startswith(("flags", "Features")))  # on x86, on ARM


def _head_dim(model: GPT2) -> int:
    block = model.transformer.h[0]
    assert isinstance(block, Block)
    return block.ln_1.weight.numel() // block.attn.n_head


def _is_in_blocks(layer: OneDNNLinear | Int8Linear) -> bool:
    """Whether a layer's weight has the size of the order that `step.cpp` reads."""
    if isinstance(layer, Int8Linear):
        return True
    n_out, n_in = layer.weight.shape
    blocks = -(-n_out // BLOCK)
    numbers, rest = divmod(torch.ops.mkldnn._nbytes(layer.weight), layer.weight.element_size() * blocks)
    return rest == 0 and numbers >= BLOCK * n_in and n_in % 2 == 0


@torch.inference_mode()
def _agrees(step: "CompiledStep", model: GPT2) -> bool:
    """Whether the compiled step and the model compute the same: another version of oneDNN may have another order."""
    if step.n_positions < 3:
        return False
    ids = torch.arange(4).view(2, 2) % step.vocab_size
    _, past = model(ids)
    expected, _ = model(ids[:, :1], past=past)
    stepped = step(ids[:, :1], past)
    return stepped is not None and bool((stepped[0] - expected).abs().max() <= TOLERANCE * expected.abs().max())


class CompiledStep:
    """The function in `step.cpp` for one model, whose weights it reads where they are."""

    def __init__(self, model: GPT2, library: ctypes.CDLL):
        transformer, block = model.transformer, model.transformer.h[0]
        assert isinstance(block, Block)
        self.n_embd = transformer.ln_f.weight.numel()
        self.n_positions = transformer.n_positions
        self.n_layer = len(transformer.h)
        self._tensors: list[Tensor] = []  # whose addresses the structures hold, which must stay theirs
        self._in_int8: dict[Int8Linear, _Linear] = {}
        self._layers = (_Layer * self.n_layer)(*(self._layer(block) for block in transformer.h))
        readout = self._linear(model.readout_head.decoder)
        self.vocab_size = readout.n_out
        self._model = _Model(
            self.n_layer,
            self.n_embd,
            transformer.ln_f.eps,
            ctypes.addressof(self._layers),
            self._norm(transformer.ln_f),
            readout,
            self._address(transformer.wpe.weight),
        )
        dtype = model.readout_head.decoder.weight.dtype
        self._address_of_model = ctypes.addressof(self._model)
        self._embedding = transformer.wte if dtype == torch.int8 else None
        self._function = getattr(library, f"gpt2_step_{str(dtype).removeprefix('torch.')}")
        self._function.argtypes = (Address, Address, Address, Count, Address, Address)
        self._function.restype = None
        self._product = library.linear_int8
        self._product.argtypes = (Address, Address, Count, Address)
        self._product.restype = None

    def __deepcopy__(self, memo: dict[int, object]) -> "CompiledStep":
        return self  # the weights are those of every copy of the model: see OneDNNLinear

    def __call__(self, input_ids: Tensor, past: Sequence[KVCache]) -> tuple[Tensor, list[KVCache]] | None:
        """Logits (B, 1, V) of the tokens after `input_ids` (B, 1), which follow `past`, and the past of the next call.

        None if these are not arguments of the model's that are right, or not such as the compiled step knows.
        """
        B, length = input_ids.numel(), len(past[0])
        if input_ids.shape != (B, 1) or input_ids.dtype not in _INTEGERS or input_ids.device.type != "cpu":
            return None
        if not 0 < B <= LARGEST_BATCH or len(past) != self.n_layer or length >= self.n_positions:
            return None
        tokens = [token for [token] in input_ids.tolist()]
        if min(tokens) < 0 or max(tokens) >= self.vocab_size:
            return None
        if not all(len(layer) == length and self._knows(layer, B) for layer in past):
            return None
        presents = [layer.extended(B, 1, self.n_positions) for layer in past]
        caches = (_LayerCache * self.n_layer)(*map(_layer_cache, presents))
        x = _floats(B, self.n_embd) if self._embedding is None else self._embedding(input_ids).float()
        logits = _floats(B, 1, self.vocab_size)
        self._function(self._address_of_model, caches, (Count * B)(*tokens), B, x.data_ptr(), logits.data_ptr())
        return logits, presents

    def product(self, layer: Int8Linear, x: Tensor) -> Tensor:
        """The output of a linear layer, (rows, n_in) -> (rows, n_out)."""
        x = x.float().contiguous()
        y = _floats(len(x), layer.n_out)
        self._product(ctypes.byref(self._in_int8[layer]), x.data_ptr(), len(x), y.data_ptr())
        return y

    def _knows(self, cache: KVCache, B: int) -> bool:
        if cache.prefix is not None and not self._knows(cache.prefix, 1):
            return False
        layout = cache.storage.layout
        return (
            layout is not None
            and layout.batch in (1, B)
            and layout.n_head * HEAD == self.n_embd
            and layout.head_dim == HEAD
            and not cache.storage.tensor.requires_grad
        )

    def _layer(self, block: nn.Module) -> _Layer:
        assert isinstance(block, Block)
        attn, mlp = block.attn, block.mlp
        return _Layer(
            self._norm(block.ln_1),
            self._linear(attn.c_attn),
            self._linear(attn.c_proj),
            self._norm(block.ln_2),
            self._linear(mlp.c_fc),
            self._linear(mlp.c_proj),
        )

    def _norm(self, norm: nn.LayerNorm) -> _Norm:
        return _Norm(self._address(norm.weight), self._address(norm.bias))

    def _linear(self, layer: nn.Module) -> _Linear:
        assert isinstance(layer, OneDNNLinear | Int8Linear)
        weight, bias = layer.weight.detach(), None if layer.bias is None else self._address(layer.bias)
        self._tensors.append(weight)
        if isinstance(layer, Int8Linear):
            scale = self._address(layer.scale)
            structure = _Linear(weight.data_ptr(), scale, bias, layer.n_in, layer.n_out, weight[0].numel())
            self._in_int8[layer] = structure
            return structure
        n_out, n_in = weight.shape
        block_size = torch.ops.mkldnn._nbytes(weight) // weight.element_size() // -(-n_out // BLOCK)
        return _Linear(torch.ops.mkldnn.data_ptr(weight), None, bias, n_in, n_out, block_size)

    def _address(self, tensor: Tensor) -> int:
        """Where the numbers of a small tensor are, or in another type than float32, those of a copy."""
        self._tensors.append(tensor.detach().float().contiguous())
        return self._tensors[-1].data_ptr()


def _layer_cache(cache: KVCache) -> _LayerCache:
    prefix = _Cache() if cache.prefix is None else _cache(cache.prefix)
    return _LayerCache(prefix, _cache(cache))


def _cache(cache: KVCache) -> _Cache:
    layout = cache.storage.layout
    assert layout is not None
    key, value, text, head, token, batch, *_ = layout
    return _Cache(key, value, 0 if batch == 1 else text, head, token, cache.own_length)


class _CompiledGPT2(GPT2):
    step: CompiledStep

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        past: Sequence[KVCache] | None = None,
    ) -> tuple[Tensor, list[KVCache]]:
        if past and position_ids is None and token_type_ids is None:
            stepped = self.step(input_ids, past)
            if stepped is not None:
                return stepped
        return super().forward(input_ids, position_ids, token_type_ids, past)


class _CompiledInt8Linear(Int8Linear):
    step: CompiledStep

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (self.n_in,) or x.device.type != "cpu" or x.requires_grad:
            return super().forward(x)
        return self.step.product(self, x.reshape(-1, self.n_in)).view(*x.shape[:-1], self.n_out)
