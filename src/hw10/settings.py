"""Read config.yml: how long each experiment trains, and with which step size."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from src.errors import ConfigError
from src.files import shown
from src.hw10.parts import MODELS


@dataclass(frozen=True)
class Training:
    """How one experiment trains."""

    iterations: int  # steps of the optimiser
    batch_size: int
    learning_rate: float
    seeds: int  # so many runs, each from another seed


@dataclass(frozen=True)
class Config:
    """What config.yml says."""

    seed: int
    experiments: Mapping[str, Training]  # by name, as in `MODELS`


def read_config(path: Path) -> Config:
    """The settings in the file at `path`.

    Raises:
        ConfigError: it is missing or not YAML, or a setting is missing, unknown or out of range.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            f"{shown(path)}: cannot be read ({error}); restore it from the starter code".replace("\n", " ")
        ) from None
    settings = raw if isinstance(raw, dict) else {}
    _check_names(path, "", settings, ("seed", *MODELS))
    seed = _number(path, "seed", settings["seed"], int, 0, 2**63 - 1)
    return Config(int(seed), {name: _training(path, name, settings[name]) for name in MODELS})


def _training(path: Path, name: str, raw: Any) -> Training:
    names = [field.name for field in fields(Training)]
    _check_names(path, f"{name} ", raw if isinstance(raw, dict) else {}, names)
    values: dict[str, Any] = {
        field.name: _number(path, f"{name}: {field.name}", raw[field.name], field.type, 0, 1e9)
        for field in fields(Training)
    }
    return Training(**values)


def _check_names(path: Path, where: str, settings: Mapping[Any, Any], names: Sequence[str]) -> None:
    if set(settings) != set(names):
        missing = [f"{name} is missing" for name in names if name not in settings]
        unknown = [f"{str(name)[:40]!r} is none of them" for name in settings if name not in names]
        rule = f"{where}must have the settings {', '.join(names)}, and no others"
        raise ConfigError(f"{shown(path)}: {rule}; {', '.join(missing + unknown)}")


def _number(path: Path, name: str, value: Any, kind: Any, least: float, most: float) -> float:
    is_right = type(value) in (int, kind) and math.isfinite(value) and least <= value <= most
    if not is_right or (name != "seed" and value == 0):
        what = ("a whole number" if kind is int else "a number") + (" from 0 on" if name == "seed" else " above 0")
        text = ", and YAML takes this for text: write 2.0e-3, not 2e-3" if _is_exponent(value) else ""
        raise ConfigError(f"{shown(path)}: {name} is {value!r}; it must be {what}{text}")
    return kind(value)  # type: ignore[no-any-return] # int or float


def _is_exponent(value: Any) -> bool:
    """Whether this is a text such as 2e-3, which is no number in YAML 1.1: it lacks the point."""
    return isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?e[+-]?\d+", value, re.IGNORECASE) is not None
