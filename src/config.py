"""config.yml → `Config`: read, validated, frozen.

GPT-2 small (`gpt2`) has its config.yml at the root of the repository; every other model has it in its own folder,
`checkpoints/NAME/`, beside its weights and vocabulary.
"""

import dataclasses
import reprlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from src.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
DTYPES = ("float32", "bfloat16")


class ConfigError(UserError):
    """A config.yml that cannot be used; the message names the file, the key, the value and the remedy."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a checkpoint: its name in `checkpoints/NAME/` and, if it can be fetched, from where."""

    file: str
    url: str | None = None
    size: int | None = None  # bytes
    sha256: str | None = None  # hexadecimal


@dataclass(frozen=True)
class CheckpointFiles:
    """What a checkpoint is made of. Of the weights, the first file that is there is used; else the first is fetched."""

    weights: tuple[RemoteFile, ...]
    encoder: RemoteFile  # token → id, GPT-2's `encoder.json`
    merges: RemoteFile  # byte-pair merges in order, GPT-2's `vocab.bpe`


@dataclass(frozen=True)
class Config:
    """Architecture, checkpoint and sampling of one GPT-2; the keys are those of config.yml.

    `n_positions` is the longest sequence the position embeddings can hold; `n_ctx` is the length of text that the
    homework works with and is never longer.
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


def model_names(root: Path = ROOT) -> list[str]:
    """What `--model` accepts: `gpt2`, and each folder of `checkpoints/` with a config.yml."""
    return ["gpt2", *sorted(path.parent.name for path in root.glob("checkpoints/*/config.yml"))]


def model_config(name: str, root: Path = ROOT) -> Config:
    """The configuration of the model called `name`.

    Raises:
        ConfigError: there is no such model, or its config.yml cannot be used.
    """
    if name not in model_names(root):
        raise ConfigError(f"--model {name}: there is no such model; known are {', '.join(model_names(root))}")
    folder = root if name == "gpt2" else root / "checkpoints" / name
    return load_config(folder / "config.yml", name)


def load_config(path: Path, name: str) -> Config:
    """Read and validate the config.yml at `path`; `name` is the model's name, as in `--model NAME`.

    Raises:
        ConfigError: the file is missing, is not YAML, lacks a key, has an unknown one, or a value makes no sense.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); restore it from the starter code") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: is not valid YAML ({reason}); restore it from the starter code") from None
    values = dict(_record(Config, raw, path, ""))
    files = dict(_record(CheckpointFiles, values["checkpoint"], path, "checkpoint."))
    if not isinstance(files["weights"], list) or not files["weights"]:
        raise ConfigError(f"{path}: checkpoint.weights must be a list of files, not {_shown(files['weights'])}")
    files["weights"] = tuple(_remote_file(entry, path, "checkpoint.weights.") for entry in files["weights"])
    for role in ("encoder", "merges"):
        files[role] = _remote_file(files[role], path, f"checkpoint.{role}.")
    values["checkpoint"] = CheckpointFiles(**files)
    config = Config(**values, name=name)
    _validate(config, path)
    return config


def _remote_file(raw, path: Path, prefix: str) -> RemoteFile:
    remote = RemoteFile(**_record(RemoteFile, raw, path, prefix))
    if not remote.file or remote.file in (".", "..") or Path(remote.file).name != remote.file:
        raise ConfigError(f"{path}: {prefix}file is {_shown(remote.file)}, but must be a plain file name")
    if remote.url and not (remote.sha256 and remote.size):
        raise ConfigError(f"{path}: {prefix}url is given, so size and sha256 must be, too")
    return remote


def _record(cls, raw, path: Path, prefix: str) -> dict:
    """Check that the mapping `raw` has exactly the keys of the dataclass `cls`, each of the declared type."""
    if not isinstance(raw, dict):
        place = f"{prefix[:-1]} must hold" if prefix else "must be"
        raise ConfigError(f"{path}: {place} keys with values, not {_shown(raw)}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.metadata.get("from_file", True)}
    for key in raw:
        if key not in fields:
            shown = _shown(key).strip("'")
            raise ConfigError(f"{path}: unknown key {prefix}{shown}; known are {', '.join(fields)}")
    for key, f in fields.items():
        if key not in raw:
            if f.default is dataclasses.MISSING:
                raise ConfigError(f"{path}: the key {prefix}{key} is missing; add it, as in the starter code")
            continue
        if f.type in _TYPES and not _TYPES[f.type](raw[key]):
            hint = ""
            if f.type is float and isinstance(raw[key], str):
                hint = " (YAML reads 1e-5 as text: write 0.00001 or 1.0e-5)"
            expected = getattr(f.type, "__name__", str(f.type).removesuffix(" | None"))
            raise ConfigError(f"{path}: {prefix}{key} must be of type {expected}, not {_shown(raw[key])}{hint}")
    return raw


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TYPES = {
    int: _is_int,
    float: lambda value: _is_int(value) or isinstance(value, float),
    str: lambda value: isinstance(value, str),
    int | None: lambda value: value is None or _is_int(value),
    str | None: lambda value: value is None or isinstance(value, str),
}


def _shown(value) -> str:
    short = reprlib.Repr()
    short.maxlevel = 2  # since YAML can nest a list in itself, or ten lists in each other
    try:
        text = short.repr(value)
    except ValueError:  # a number of thousands of digits
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _validate(config: Config, path: Path) -> None:
    def require(condition: bool, key: str, why: str) -> None:
        if not condition:
            raise ConfigError(f"{path}: {key} is {_shown(getattr(config, key))}, but {why}")

    for key in ("vocab_size", "n_positions", "n_ctx", "n_embd", "n_layer", "n_head"):
        require(getattr(config, key) >= 1, key, "must be at least 1")
    for key in ("layer_norm_epsilon", "initializer_range"):
        require(0 < getattr(config, key) <= sys.float_info.max, key, "must be a positive number")
    require(config.n_embd % config.n_head == 0, "n_embd", f"must be divisible by n_head, which is {config.n_head}")
    require(config.n_ctx <= config.n_positions, "n_ctx", f"must not exceed n_positions, which is {config.n_positions}")
    require(config.top_k >= 0, "top_k", "must be 0 (keep all tokens) or more")
    require(0 <= config.seed < 2**63, "seed", "must lie between 0 and 2**63 - 1")
    require(config.dtype in DTYPES, "dtype", f"must be one of {', '.join(DTYPES)}")
