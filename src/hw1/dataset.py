"""The texts of homework 1, read from `data/` and checked."""

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import DataError
from src.grading.safe_pickle import read_plain

PIECE_LENGTH = 100  # characters
HISTOGRAM_PIECES = 100
SNIPPETS = 300
PAPER_COLUMNS = ("Id", "Title", "EventType", "PdfName", "Abstract", "PaperText")


@dataclass(frozen=True)
class Dataset:
    """One kind of text."""

    name: str  # in the names of files, and in code
    label: str  # for people: in plots, hints and documents
    colour: str  # in plots

    @property
    def file(self) -> str:
        """Its file in data/."""
        return f"{self.name}.pkl"


RANDOM = Dataset("random", "random letters", "#d1495b")
SHAKESPEARE = Dataset("shakespeare", "plays", "#edae49")
NEURIPS = Dataset("neurips", "abstracts", "#30638e")
DATASETS = (RANDOM, SHAKESPEARE, NEURIPS)


def read_papers(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV of papers, as dicts with the keys `PAPER_COLUMNS`.

    Raises:
        DataError: the file is missing, lacks a column, or a row is short or has no abstract.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the text of a whole paper is longer than the default allows
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        missing = set(PAPER_COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path}: lacks the column {min(missing)}; it needs {', '.join(PAPER_COLUMNS)}")
        rows = list(reader)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore it from the starter code") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file in UTF-8 ({error}); restore it from the starter code") from None
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise DataError(f"{path}: row {number} has not as many fields as the header")
        if not row["Abstract"].strip():
            raise DataError(f"{path}: row {number} ({row['Title'][:40]!r}) has an empty abstract")
    return rows


def read_pieces(path: Path) -> list[str]:
    """The 100 consecutive pieces of one text, pickled as a dict 0…99 → str of 100 characters.

    Raises:
        DataError: the file holds anything else.
        PickleError: the file is missing or damaged.
    """
    pieces = read_plain(path)
    if not isinstance(pieces, dict) or list(pieces) != list(range(HISTOGRAM_PIECES)):
        raise DataError(f"{path}: must be a dict with the keys 0 to {HISTOGRAM_PIECES - 1}, in this order")
    return _checked(path, list(pieces.values()))


def read_snippets(path: Path) -> list[str]:
    """The 300 snippets to classify, pickled as a list of str of 100 characters.

    Raises:
        DataError: the file holds anything else.
        PickleError: the file is missing or damaged.
    """
    snippets = read_plain(path)
    if not isinstance(snippets, list) or len(snippets) != SNIPPETS:
        raise DataError(f"{path}: must be a list of {SNIPPETS} texts")
    return _checked(path, snippets)


def _checked(path: Path, pieces: list[Any]) -> list[str]:
    for i, piece in enumerate(pieces):
        if not isinstance(piece, str) or len(piece) != PIECE_LENGTH:
            what = f"has {len(piece)} characters" if isinstance(piece, str) else f"is of type {type(piece).__name__}"
            raise DataError(f"{path}: text {i} {what}; it must be a str of {PIECE_LENGTH}")
    return pieces
