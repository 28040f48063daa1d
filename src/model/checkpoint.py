"""From a model's configuration to its files, downloaded if necessary and verified, and to the model and its codec."""

import contextlib
import functools
import hashlib
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from src.errors import CheckpointError
from src.files import ROOT
from src.model.codec import Codec, load_codec
from src.model.compiled import use_compiled_step
from src.model.config import Config, RemoteFile
from src.model.download import download
from src.model.gpt2 import GPT2
from src.model.int8 import use_int8
from src.model.onednn import is_supported, use_onednn

# Smaller tensors are copied: the operating system may read this much of a memory-mapped file to get a single number.
SMALLEST_MAPPED = 2**21  # bytes

# Tensors in some checkpoints that this model computes: the causal mask, and the readout, which is the token embedding.
_MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
_READOUTS = ("lm_head.weight", "readout_head.decoder.weight")
_OLD_SUFFIXES = {".g": ".weight", ".w": ".weight", ".b": ".bias"}

_REMEDY = "delete it, then download it with main.py --cache or restore it from the starter code"
_WRONG_FILE = "is it the checkpoint for this config.yml?"

T = TypeVar("T")


@dataclass(frozen=True)
class Files:
    """The files of a checkpoint on disk."""

    weights: Path
    encoder: Path
    merges: Path
    weights_sha256: str  # hexadecimal


def locate(config: Config, root: Path = ROOT) -> Files:
    """The model's files in `checkpoints/NAME/`; those that are missing are downloaded.

    Every time, each file is compared with the size and the sha256 in the configuration, if they are given there.

    Raises:
        CheckpointError: a file is damaged, or is missing and cannot be downloaded.
    """
    folder, files = root / "checkpoints" / config.name, config.checkpoint
    weights = next((w for w in files.weights if (folder / w.file).exists()), files.weights[0])
    missing = [remote for remote in (files.encoder, files.merges, weights) if not (folder / remote.file).exists()]
    for i, remote in enumerate(missing):
        problem = _download(remote, folder / remote.file)
        if problem is not None:
            by_hand = ", ".join(f"{other.url} as {other.file}" for other in missing[i:])
            raise CheckpointError(
                f"{folder / remote.file}: cannot be downloaded ({problem}). Run again, or save into {folder}: "
                f"{by_hand}; or use the model that comes with the homework: --model bundled"
            )
    _verify(files.encoder, folder)
    _verify(files.merges, folder)
    digest = _verify(weights, folder)
    return Files(folder / weights.file, folder / files.encoder.file, folder / files.merges.file, digest)


def load(config: Config, files: Files, device: str = "cpu", fast: bool = False) -> tuple[GPT2, Codec]:
    """The model on `device`, frozen and in evaluation mode, and its codec.

    With `fast`, the model is good for inference only: it has the weights that the configuration's dtype says, and on a
    CPU it uses oneDNN and compiled code, as far as the machine supports them.

    Raises:
        CheckpointError: a file is not a checkpoint or does not fit the configuration.
        VocabularyError: the vocabulary is damaged.
    """
    codec = load_codec(files.encoder, files.merges)
    if codec.vocab_size != config.vocab_size:
        raise CheckpointError(
            f"{files.encoder}: has {codec.vocab_size} tokens, but the model's config.yml has vocab_size: "
            f"{config.vocab_size}; the two must agree"
        )
    weights = read_weights(files.weights)
    model = build(config, weights, files.weights)
    on_cpu = device == "cpu"
    if fast and config.dtype == "int8":
        use_int8(model)
    elif fast and on_cpu and is_supported(model.transformer.wte.weight.dtype):
        use_onednn(model)
    else:
        return model.to(device), codec
    if on_cpu and isinstance(weights, _MappedTensors):
        _map_embedding(model.transformer.wte, weights["wte.weight"])
    if on_cpu:
        use_compiled_step(model)
    return model.to(device), codec


def _map_embedding(embedding: nn.Embedding, mapped: Tensor) -> None:
    """Look rows up in the mapped tensor, which takes memory for these alone: the readout has a copy of its own."""
    dtype = embedding.weight.dtype
    embedding.weight = nn.Parameter(mapped, requires_grad=False)
    if mapped.dtype != dtype:
        embedding.register_forward_hook(lambda module, ids, rows: rows.to(dtype))


class _SkipRandomWeights(TorchFunctionMode):
    """Modules built in this context do not draw their weights, which takes a second even on the device "meta"."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **kwargs)


def build(config: Config, weights: Mapping[str, Tensor], source: Path) -> GPT2:
    """A model with these weights, frozen and in evaluation mode; errors name `source` as the file they come from.

    Raises:
        CheckpointError: a tensor is missing, unexpected, or of another shape than the configuration says.
    """
    with torch.device("meta"), _SkipRandomWeights():
        model = GPT2(config)
    shapes = {name: parameter.shape for name, parameter in model.transformer.named_parameters()}
    _check_names(weights, shapes.keys(), source)
    tensors = {}
    for name, shape in shapes.items():
        tensor = weights[name]
        if tensor.shape != shape:
            raise CheckpointError(
                f"{source}: the tensor {name} has shape {tuple(tensor.shape)}, but with this config.yml it should be "
                f"{tuple(shape)}; {_WRONG_FILE}"
            )
        tensors[name] = tensor.to(getattr(torch, config.float_type)).contiguous()
    model.transformer.load_state_dict(tensors, assign=True)
    model.set_tied()
    return model.eval().requires_grad_(False)


def _check_names(weights: Mapping[str, Tensor], expected: Set[str], source: Path) -> None:
    for name in weights.keys() & set(_READOUTS):
        if "wte.weight" in weights and not torch.equal(weights[name], weights["wte.weight"]):
            raise CheckpointError(
                f"{source}: {name} differs from wte.weight, but in GPT-2 they are the same; this is another model"
            )
    names = weights.keys() - set(_READOUTS)
    if missing := expected - names:
        raise CheckpointError(f"{source}: lacks the tensor {_first_of(missing)}; {_WRONG_FILE}")
    if unknown := names - expected:
        raise CheckpointError(
            f"{source}: has the tensor {_first_of(unknown)}, which this GPT-2 does not have; {_WRONG_FILE}"
        )


def _first_of(names: Set[str]) -> str:
    return min(names) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


class _MappedTensors(Mapping[str, Tensor]):
    """The tensors of a `.safetensors` file under their current names, memory-mapped.

    Each is mapped when it is looked up, and by itself, so that a tensor takes no memory before or after its use.
    """

    def __init__(self, path: Path):
        from safetensors import safe_open

        self._open = functools.partial(safe_open, path, "pt")
        self._path = path
        with self._open() as file:
            self._stored = _current_names({name: name for name in file.keys()})  # noqa: SIM118 # file is not a dict

    def __getitem__(self, name: str) -> Tensor:
        stored = self._stored[name]
        with _reading(self._path), self._open() as file:
            tensor: Tensor = file.get_tensor(stored)
            return tensor if tensor.nbytes > SMALLEST_MAPPED else tensor.clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The tensors in a `.safetensors` file, or in an older `.bin` file, under the names that the model uses.

    No code in the file is executed: a `.bin` file is read with PyTorch's restricted unpickler, which allows tensors
    only.

    Raises:
        CheckpointError: the file is truncated, of another format, or holds anything but tensors.
    """
    with _reading(path):
        if path.suffix == ".safetensors":
            return _MappedTensors(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path}: holds something other than named tensors; {_REMEDY}")
    return _current_names(tensors)


def _current_names(tensors: Mapping[str, T]) -> dict[str, T]:
    """`tensors` under the names that the model uses, without the causal masks."""
    renamed = {}
    for old_name, tensor in tensors.items():
        stem, dot, suffix = str(old_name).removeprefix("transformer.").rpartition(".")
        name = stem + _OLD_SUFFIXES.get(dot + suffix, dot + suffix)
        if not _MASK.fullmatch(name):
            renamed[name] = tensor
    return renamed


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn any error while `path` is read into a CheckpointError of one line."""
    try:
        with _delayed_interrupt():  # safetensors would report a KeyboardInterrupt as a damaged file
            yield
    except Exception as error:  # the readers raise many types; whichever it is, the file cannot be used
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: is truncated or not a checkpoint ({reason}); {_REMEDY}") from None


@contextlib.contextmanager
def _delayed_interrupt() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block."""
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread only
        yield
        return
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if received:
        signal.raise_signal(signal.SIGINT)


def _verify(remote: RemoteFile, folder: Path) -> str:
    """The sha256 of the file in `folder`, after comparing it and the size with the configuration."""
    path = folder / remote.file
    try:
        size = path.stat().st_size
        if remote.size is not None and size != remote.size:
            raise CheckpointError(f"{path}: has {size} bytes, but should have {remote.size}; {_REMEDY}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if remote.sha256 is not None and digest != remote.sha256:
        raise CheckpointError(f"{path}: is damaged or another file: its sha256 is not that in config.yml; {_REMEDY}")
    return digest


def _download(remote: RemoteFile, path: Path) -> str | None:
    """Download `remote` to `path`, which exists only once it is complete and verified; returns what went wrong."""
    if remote.url is None or remote.size is None:  # config.yml gives every url with a size
        raise CheckpointError(f"{path}: is missing; restore it from the starter code")
    print(f"downloading {path.name} ({remote.size / 1e6:.1f} MB) into {path.parent}")
    return download(remote.url, str(remote.sha256), path)
