"""The log-likelihoods of the three data sets' strings under a model: computed once, then read from .playground/."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.errors import OutputError
from src.files import ROOT, write_file
from src.playground.mind import Mind

CACHE = ROOT / ".playground"


@dataclass(frozen=True)
class Texts:
    """A data set's strings."""

    name: str
    label: str
    pieces: tuple[str, ...]


def texts(data: Path) -> list[Texts]:
    """The three data sets of homework 1.

    Raises:
        UserError: a file of `data` is missing or damaged.
    """
    from src.hw1.dataset import DATASETS, read_pieces  # here, for the playground does without this homework

    return [Texts(each.name, each.label, tuple(read_pieces(data / each.file))) for each in DATASETS]


def cached(mind: Mind, data: Sequence[Texts], folder: Path = CACHE) -> dict[str, list[float]] | None:
    """The values by the data set's name, if they were computed before."""
    try:
        values = json.loads(_path(mind, data, folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(values, dict) and all(
        isinstance(of := values.get(each.name), list)
        and len(of) == len(each.pieces)
        and all(isinstance(value, float) for value in of)
        for each in data
    )
    return values if is_whole else None


def keep(mind: Mind, data: Sequence[Texts], values: dict[str, list[float]], folder: Path = CACHE) -> None:
    """Write the values for `cached`; where nothing can be written, they are computed again next time."""
    with contextlib.suppress(OutputError):
        write_file(_path(mind, data, folder), json.dumps(values).encode())


def _path(mind: Mind, data: Sequence[Texts], folder: Path) -> Path:
    """The cache's file: another one for other weights or other strings."""
    content = json.dumps([mind.weights_sha256, *(each.pieces for each in data)])
    return folder / f"{mind.config.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"
