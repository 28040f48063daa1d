"""Reads and validates config.yml.

A model has its config.yml in its own folder, `checkpoints/NAME/`, beside its weights and vocabulary. That of GPT-2
small (`gpt2`) is at the root of the repository, unless the root's config.yml is another homework's.

Commands read the configuration when they start: nothing slow is imported here, such as PyTorch or NumPy.
"""

import dataclasses
import reprlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from src.errors import ConfigError
from src.files import ROOT

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BUNDLED = "gpt2-mini"  # the model that comes with the repository; `--model bundled` means this one
DTYPES = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a checkpoint: its name in `checkpoints/NAME/` and, if it can be downloaded, its address."""

    file: str
    url: str | None = None
    size: int | None = None  # bytes
    sha256: str | None = None  # hexadecimal


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of a checkpoint. The first of `weights` that exists is used; if none does, the first is downloaded."""

    weights: tuple[RemoteFile, ...]
    encoder: RemoteFile  # tokens to ids, GPT-2's `encoder.json`
    merges: RemoteFile  # byte-pair merges in order, GPT-2's `vocab.bpe`


@dataclass(frozen=True)
class Config:
    """Architecture, checkpoint and sampling of one GPT-2, under the keys of config.yml.

    `n_positions` is the longest text that the position embeddings allow; `n_ctx`, which is never larger, is the longest
    text to be made with the model.
    """

    seed: int
    vocab_size: int
    n_positions: int
    n_ctx: int
    n_embd: int
    n_layer: int
    n_head: int
    layer_norm_epsilon: float
    initializer_range: float
    top_k: int
    checkpoint: CheckpointFiles
    dtype: str = "float32"
    name: str = field(default="gpt2", metadata={"from_file": False})

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    @property
    def float_type(self) -> str:
        """The type of PyTorch's in which the model computes: with `dtype: int8`, only weights are rounded to int8."""
        return "float32" if self.dtype == "int8" else self.dtype


def model_names(root: Path = ROOT) -> list[str]:
    """The models below `root`: `gpt2`, and each folder of `checkpoints/` that has a config.yml."""
    found = sorted(path.parent.name for path in root.glob("checkpoints/*/config.yml"))
    return list(dict.fromkeys(("gpt2", *found)))


def model_config(name: str, root: Path = ROOT) -> Config:
    """The configuration of the model `name`; `bundled` stands for `BUNDLED`.

    Raises:
        ConfigError: there is no such model, or its config.yml cannot be used.
    """
    model, known = (BUNDLED if name == "bundled" else name), model_names(root)
    if model not in known:
        raise ConfigError(
            f"--model {name}: there is no such model; known are {', '.join(known)} (bundled stands for {BUNDLED})"
        )
    path = root / "checkpoints" / model / "config.yml"
    return load_config(root / "config.yml" if model == "gpt2" and not path.exists() else path, model)


def option(model: str) -> str:
    """What names this model after --model: as the README does."""
    return "bundled" if model == BUNDLED else model


def load_config(path: Path, name: str) -> Config:
    """The configuration in the config.yml at `path`, validated; `name` is the model's name, as in `--model NAME`.

    Raises:
        ConfigError: the file is missing or not valid YAML, a key is missing or unknown, or a value is not allowed.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); restore it from the starter code") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: is not valid YAML ({reason}); restore it from the starter code") from None
    values = _checked_values(Config, raw, path, "")
    values["checkpoint"] = _checkpoint_files(values["checkpoint"], path)
    config = Config(**values, name=name)
    _validate(config, path)
    return config


def _checkpoint_files(raw: object, path: Path) -> CheckpointFiles:
    files = _checked_values(CheckpointFiles, raw, path, "checkpoint.")
    weights = files["weights"]
    if not isinstance(weights, list) or not weights:
        raise ConfigError(f"{path}: checkpoint.weights must be a list of files, not {_quoted(weights)}")
    return CheckpointFiles(
        weights=tuple(_remote_file(entry, path, "checkpoint.weights.") for entry in weights),
        encoder=_remote_file(files["encoder"], path, "checkpoint.encoder."),
        merges=_remote_file(files["merges"], path, "checkpoint.merges."),
    )


def _remote_file(raw: object, path: Path, prefix: str) -> RemoteFile:
    remote = RemoteFile(**_checked_values(RemoteFile, raw, path, prefix))
    if not remote.file or remote.file in (".", "..") or Path(remote.file).name != remote.file:
        raise ConfigError(f"{path}: {prefix}file is {_quoted(remote.file)}, but must be a plain file name")
    if remote.url and not (remote.sha256 and remote.size):
        raise ConfigError(f"{path}: {prefix}url is given, so size and sha256 must be, too")
    return remote


def _checked_values(cls: "type[DataclassInstance]", raw: object, path: Path, prefix: str) -> dict[str, Any]:
    """A copy of the mapping `raw`, which must have the keys of the dataclass `cls`, with values of the right types."""
    if not isinstance(raw, dict):
        place = f"{prefix[:-1]} must hold" if prefix else "must be"
        raise ConfigError(f"{path}: {place} keys with values, not {_quoted(raw)}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.metadata.get("from_file", True)}
    for key in raw:
        if key not in fields:
            unknown = _quoted(key).strip("'")
            raise ConfigError(f"{path}: unknown key {prefix}{unknown}; known are {', '.join(fields)}")
    for key, f in fields.items():
        if key not in raw:
            if f.default is dataclasses.MISSING:
                raise ConfigError(f"{path}: the key {prefix}{key} is missing; add it, as in the starter code")
            continue
        if f.type in _IS_OF_TYPE and not _IS_OF_TYPE[f.type](raw[key]):
            hint = ""
            if f.type is float and isinstance(raw[key], str):
                hint = " (YAML reads 1e-5 as text: write 0.00001 or 1.0e-5)"
            expected = getattr(f.type, "__name__", str(f.type).removesuffix(" | None"))
            raise ConfigError(f"{path}: {prefix}{key} must be of type {expected}, not {_quoted(raw[key])}{hint}")
    return dict(raw)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)  # in Python, True is an int


_IS_OF_TYPE: dict[object, Callable[[object], bool]] = {
    int: _is_int,
    float: lambda value: _is_int(value) or isinstance(value, float),
    str: lambda value: isinstance(value, str),
    int | None: lambda value: value is None or _is_int(value),
    str | None: lambda value: value is None or isinstance(value, str),
}


def _quoted(value: object) -> str:
    """`value` as Python writes it, in at most 60 characters."""
    short = reprlib.Repr()
    short.maxlevel = 2  # YAML can nest a list in itself, or ten lists in each other
    try:
        text = short.repr(value)
    except ValueError:  # Python refuses to print an int of thousands of digits
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _validate(config: Config, path: Path) -> None:
    def require(condition: bool, key: str, why: str) -> None:
        if not condition:
            raise ConfigError(f"{path}: {key} is {_quoted(getattr(config, key))}, but {why}")

    for key in ("vocab_size", "n_positions", "n_ctx", "n_embd", "n_layer", "n_head"):
        require(getattr(config, key) >= 1, key, "must be at least 1")
    for key in ("layer_norm_epsilon", "initializer_range"):
        require(0 < getattr(config, key) <= sys.float_info.max, key, "must be a positive number")
    require(config.n_embd % config.n_head == 0, "n_embd", f"must be divisible by n_head, which is {config.n_head}")
    require(config.n_ctx <= config.n_positions, "n_ctx", f"must not exceed n_positions, which is {config.n_positions}")
    require(config.top_k >= 0, "top_k", "must be 0 (keep all tokens) or more")
    require(0 <= config.seed < 2**63, "seed", "must lie between 0 and 2**63 - 1")
    require(config.dtype in DTYPES, "dtype", f"must be one of {', '.join(DTYPES)}")
    fits = config.dtype != "int8" or config.n_embd % 64 == 0
    require(fits, "dtype", f"n_embd, which is {config.n_embd}, is not divisible by 64; choose another dtype")
