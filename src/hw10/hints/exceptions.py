"""Mistakes behind errors that student code raises, recognised by the error and the line."""

import re
from collections.abc import Callable

from src.grading.part_test import Mistake, Mistakes

_Case = tuple[str, str]  # the error, "TypeError: …", and the student's line that raised it


def _says(pattern: str) -> Callable[[_Case], bool]:
    return lambda case: re.search(pattern, case[0]) is not None


NOT_TOKEN_IDS = Mistake(
    "not token ids",
    "only token ids can be embedded; the rows of a soft prompt stand in the place of embeddings already",
    (_says(r"index out of range in self|Expected tensor for argument #1 'indices'"),),
)
MISTAKES = (
    Mistake(
        "one number expected",
        "a tensor with several numbers was used as one number; is a mean or a sum missing?",
        (_says(r"only one element tensors|grad can be implicitly created only for scalar outputs"),),
    ),
    Mistake(
        "shapes differ",
        "two tensors do not fit together; print their shapes, and compare them with those in the first lines",
        (
            _says(
                r"must match the size of tensor|Sizes of tensors must match|shapes cannot be multiplied|size mismatch|"
                r"Target size "
            ),
        ),
    ),
    Mistake(
        "types differ",
        "tensors of different types meet, such as float64 and float32; a result has the type of its arguments",
        (_says(r"must have the same dtype|expected scalar type|expected m1 and m2 to have the same dtype"),),
    ),
    Mistake(
        "nothing returned",
        "a value is None, as that of a function without a `return`, or a .grad that nothing has filled",
        (_says(r"TypeError: .*NoneType"),),
    ),
    Mistake(
        "missing import",
        "this name is not defined; is an import missing at the top of the file?",
        (_says(r"NameError: name '(torch|nn|F|functional|math|np)' is not defined"),),
    ),
    Mistake(
        "no batch",
        "a network takes a batch of images; one image is a batch of one, with a first axis of length 1",
        (_says(r"takes a batch of images"),),
    ),
    Mistake(
        "place outside",
        "a list with n entries has the places 0, ..., n - 1; this index lies outside",
        (_says(r"IndexError: list (assignment )?index out of range"),),
    ),
    NOT_TOKEN_IDS,
)


def diagnose_exception(error: str, line: str) -> Mistakes:
    """The known mistakes behind an `error`, "TypeError: …", of a student's `line`."""
    return [m for m in MISTAKES if any(variant((error, line)) for variant in m.variants)][:1]
