"""A model's configuration → its files, found or fetched and verified → the model and its codec."""

import contextlib
import functools
import hashlib
import logging
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from src import packing
from src.codec import Codec, load_codec
from src.config import ROOT, Config, RemoteFile
from src.errors import UserError
from src.gpt2 import GPT2

BUNDLED = "gpt2-mini"

SMALLEST_MAPPED = 2**21  # bytes: the system may read that much of the file for one number of a tensor

# Stored in some checkpoints, but computed here: the causal mask, and the readout, which is the token embedding itself.
_MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
_READOUTS = ("lm_head.weight", "readout_head.decoder.weight")
_REMEDY = "delete it, then fetch it with main.py --cache or restore it from the starter code"
_OLD_SUFFIXES = {".g": ".weight", ".w": ".weight", ".b": ".bias"}


T = TypeVar("T")


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or foreign; the message names the file and the remedy."""


@dataclass(frozen=True)
class Files:
    """A checkpoint's files on disk."""

    weights: Path
    encoder: Path
    merges: Path
    weights_sha256: str  # hexadecimal


def locate(config: Config, root: Path = ROOT) -> Files:
    """The model's files: each found in `checkpoints/NAME/`, or else fetched to there.

    A file whose size and sha256 the config states is checked against them, each time.

    Raises:
        CheckpointError: a file is damaged, or it is missing and cannot be fetched.
    """
    folder, files = root / "checkpoints" / config.name, config.checkpoint
    weights = next((w for w in files.weights if (folder / w.file).exists()), files.weights[0])
    missing = [remote for remote in (files.encoder, files.merges, weights) if not (folder / remote.file).exists()]
    for i, remote in enumerate(missing):
        problem = _fetch(remote, folder / remote.file)
        if problem is not None:
            by_hand = ", ".join(f"{other.url} as {other.file}" for other in missing[i:])
            raise CheckpointError(
                f"{folder / remote.file}: cannot be fetched ({problem}). Run again, or save into {folder}: {by_hand}; "
                f"or use the model that is bundled: --model {BUNDLED}"
            )
    _verify(files.encoder, folder)
    _verify(files.merges, folder)
    digest = _verify(weights, folder)
    return Files(folder / weights.file, folder / files.encoder.file, folder / files.merges.file, digest)


def load(config: Config, files: Files, device: str = "cpu", packed: bool = False) -> tuple[GPT2, Codec]:
    """The model, frozen and in evaluation mode on `device`, and its codec.

    `packed` has the model packed for speed (see `packing.pack`) where device and processor allow it.

    Raises:
        CheckpointError: a file is no checkpoint or doesn't fit the config.
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
    if packed and device == "cpu" and packing.can_pack(model.transformer.wte.weight.dtype):
        packing.pack(model)
    return model.to(device), codec


class _Undrawn(TorchFunctionMode):
    """Modules made under it don't draw their weights; on the device "meta", that alone would take a second."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is nn.init.normal_:
            return kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def build(config: Config, weights: Mapping[str, Tensor], source: Path) -> GPT2:
    """A frozen model in evaluation mode that holds `weights`; `source` is the file to name in errors.

    Raises:
        CheckpointError: a tensor is missing, unexpected or of another shape than the config says.
    """
    with torch.device("meta"), _Undrawn():
        model = GPT2(config)
    expected = {name: parameter.shape for name, parameter in model.transformer.named_parameters()}
    for name in weights.keys() & set(_READOUTS):
        if "wte.weight" in weights and not torch.equal(weights[name], weights["wte.weight"]):
            raise CheckpointError(
                f"{source}: {name} differs from wte.weight; GPT-2 shares the two; this is another model"
            )
    known = weights.keys() - set(_READOUTS)
    for problem, names in (("lacks", expected.keys() - known), ("has", known - expected.keys())):
        if names:
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            surplus = ", which this GPT-2 doesn't have" if problem == "has" else ""
            raise CheckpointError(
                f"{source}: {problem} the tensor {min(names)}{others}{surplus}; is it the one for this config.yml?"
            )
    tensors = {}
    for name, shape in expected.items():
        tensor = weights[name]
        if tensor.shape != shape:
            raise CheckpointError(
                f"{source}: the tensor {name} has shape {tuple(tensor.shape)}, but config.yml makes it "
                f"{tuple(shape)}; is it the one for this config.yml?"
            )
        tensors[name] = tensor.to(getattr(torch, config.dtype)).contiguous()
    model.transformer.load_state_dict(tensors, assign=True)
    model.set_tied()
    return model.eval().requires_grad_(False)


class _Mapped(Mapping[str, Tensor]):
    """The tensors of a `.safetensors` file by today's names, mapped into memory.

    Each has a mapping of its own, made when it is asked for: what nobody holds or looks at takes no memory.
    """

    def __init__(self, path: Path):
        from safetensors import safe_open

        self._open = functools.partial(safe_open, path, "pt")
        self._path = path
        with self._open() as file:
            self._stored = _by_todays_names({name: name for name in file.keys()})  # noqa: SIM118 # file is no dict

    def __getitem__(self, name: str) -> Tensor:
        stored = self._stored[name]
        with _reading(self._path), self._open() as file:
            tensor = file.get_tensor(stored)
            return tensor if tensor.nbytes > SMALLEST_MAPPED else tensor.clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """All tensors in a `.safetensors` file, or in an older `.bin` one, under the names of today's checkpoint.

    Nothing in the file is executed: a `.bin` is read with PyTorch's restricted unpickler, which makes tensors alone.

    Raises:
        CheckpointError: the file is truncated, foreign, or holds anything but tensors.
    """
    with _reading(path):
        if path.suffix == ".safetensors":
            return _Mapped(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path}: holds something other than named tensors; {_REMEDY}")
    return _by_todays_names(tensors)


def _by_todays_names(tensors: Mapping[str, T]) -> dict[str, T]:
    """`tensors` under the names of today's checkpoint, the causal masks left out."""
    named = {}
    for name, tensor in tensors.items():
        name = str(name).removeprefix("transformer.")
        stem, dot, suffix = name.rpartition(".")
        name = stem + _OLD_SUFFIXES.get(dot + suffix, dot + suffix)
        if not _MASK.fullmatch(name):
            named[name] = tensor
    return named


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in one line that `path` is damaged, if it is; and have Ctrl-C wait: safetensors would take it for damage."""
    try:
        with _interrupt_held_back():
            yield
    except Exception as error:  # the readers raise a dozen kinds; whichever it is, the file is no checkpoint
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: is truncated or no checkpoint ({reason}); {_REMEDY}") from None


@contextlib.contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Have Ctrl-C wait until the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def _verify(remote: RemoteFile, folder: Path) -> str:
    """The sha256 of `remote`'s file in `folder`, which is what the config says, if it does."""
    path = folder / remote.file
    try:
        size = path.stat().st_size
        if remote.size is not None and size != remote.size:
            raise CheckpointError(f"{path}: has {size} bytes, but should have {remote.size}; {_REMEDY}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if remote.sha256 is not None and digest != remote.sha256:
        raise CheckpointError(f"{path}: is damaged or another file, its sha256 is not that in config.yml; {_REMEDY}")
    return digest


def _fetch(remote: RemoteFile, path: Path) -> str | None:
    """Fetch `remote` to `path`: written beside, checked, then renamed. Returns what went wrong, if anything did."""
    if remote.url is None:
        raise CheckpointError(f"{path}: is missing; restore it from the starter code")
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.ERROR)  # it would print a line of its own for what the progress bar shows
    print(f"fetching {path.name} ({remote.size / 1e6:.1f} MB) into {path.parent}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=2**18)
        pooch.retrieve(remote.url, f"sha256:{remote.sha256}", path.name, path.parent, downloader=downloader)
        path.chmod(0o644)  # the temporary file was its owner's alone
    except requests.HTTPError as error:
        return f"the server answered {error.response.status_code}"
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return "no connection, or it broke off"
    except requests.RequestException as error:
        return type(error).__name__
    except ValueError:
        return "what arrived is damaged: its sha256 is not the one in config.yml"
    except OSError as error:
        return error.strerror or str(error)
    return None
