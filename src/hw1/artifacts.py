"""The files that the parts leave in submit/: how they are written, and what can be wrong with them."""

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from src.grading.artifacts import artifact
from src.grading.homework import Artifact
from src.grading.safe_pickle import read_float_array, read_plain
from src.hw1.dataset import HISTOGRAM_PIECES, SNIPPETS, Dataset


def samples_file(name: str, samples: int) -> Artifact:
    """A text file that holds so many samples."""

    def problem(path: Path) -> str | None:
        found = count_samples(path.read_text(encoding="utf-8"))
        return None if found == samples else f"holds {found} samples, not {samples}"

    return artifact(name, problem)


def likelihoods_file(dataset: Dataset) -> Artifact:
    """The pickle of a data set's log-likelihoods: a NumPy array of 100 float64."""

    def problem(path: Path) -> str | None:
        found = len(read_float_array(path))
        return None if found == HISTOGRAM_PIECES else f"holds {found} numbers, not {HISTOGRAM_PIECES}"

    return artifact(f"{dataset.name}_raw.pkl", problem)


def decisions_file(name: str) -> Artifact:
    """The pickle of the classifier's decisions: a list of 300 bools."""

    def problem(path: Path) -> str | None:
        found = read_plain(path)
        is_right = isinstance(found, list) and len(found) == SNIPPETS and all(type(each) is bool for each in found)
        return None if is_right else f"is not a list of {SNIPPETS} bools"

    return artifact(name, problem)


def text_of_samples(samples: Iterable[str]) -> bytes:
    """The content of a samples file: the texts one below the other, each under a numbered rule."""
    return "".join(f"{_rule(i)}\n{text}\n\n" for i, text in enumerate(samples, start=1)).encode("utf-8")


def count_samples(text: str) -> int:
    """How many samples the samples file `text` holds."""
    lines = set(text.splitlines())
    count = 0
    while _rule(count + 1) in lines:
        count += 1
    return count


def _rule(number: int) -> str:
    return f"{'=' * 30} sample {number} {'=' * 30}"


def pickled(value: Any) -> bytes:
    """`value` as a pickle that every Python since 3.4 reads."""
    return pickle.dumps(value, protocol=4)
