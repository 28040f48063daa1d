"""What no file that students get may hold of the key: the words, the formulas and the long numbers of its blocks.

The common errors are left out: hints speak of the same errors, and may use the same words.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from staff.handout.source import ERRORS, Source, line_of

KEY_NOTE = "For staff only: answers, rubric and common errors"  # on each page of the key, and readable in its bytes
MIN_WORDS, MIN_FORMULA = 30, 14  # characters, without what `_letters` and `_formula` drop; shorter ones say too little
_MATH = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$", re.S)
_BREAK = re.compile(r"[.!?:;]\s|^- |\n\n|\*\*|\|", re.M)
_PARTS = re.compile(r"\\\\|\\q?quad|\\begin\{\w+\}|\\end\{\w+\}")  # the lines and columns of a displayed formula
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3}){2,}|\d{7,}")
_SPACES = re.compile(r"\\[,;: ]|&|\s+")


@dataclass(frozen=True)
class Passages:
    """What is in the key and in nothing that students get."""

    words: frozenset[str]
    formulas: frozenset[str]
    numbers: frozenset[str]

    def found_in(self, text: str) -> tuple[int, str] | None:
        """The line of `text` on which one of them begins, and the passage."""
        for passages, plain in ((self.words, _letters), (self.formulas, _formula)):
            whole = plain(text)
            for passage in sorted(passages):
                if (index := whole.find(passage)) >= 0:
                    return line_of(index, text, plain), passage
        for match in _NUMBER.finditer(text):
            if match[0].replace(",", "") in self.numbers:
                return text.count("\n", 0, match.start()) + 1, match[0]
        return None


def secret_passages(source: Source) -> Passages:
    """The passages of all blocks for staff but the common errors, where they are not in the students' text, too."""
    secret = [text.text for text in source.texts() if text.block not in ("", ERRORS)]
    public = "\n\n".join(
        [text.text for text in source.texts() if not text.block] + [each.title for each in source.questions]
    )
    words = (_letters(piece) for text in secret for piece in _BREAK.split(_MATH.sub(". ", text)))
    formulas = (
        _formula(piece).strip(",.")
        for text in secret
        for match in _MATH.finditer(text)
        for piece in _PARTS.split(match[1] or match[2])
    )
    numbers = (match[0].replace(",", "") for text in secret for match in _NUMBER.finditer(text))
    return Passages(
        _not_in(_letters(public), words, MIN_WORDS),
        _not_in(_formula(public), formulas, MIN_FORMULA),
        frozenset(numbers) - {match[0].replace(",", "") for match in _NUMBER.finditer(public)},
    )


def _not_in(public: str, passages: Iterable[str], shortest: int) -> frozenset[str]:
    return frozenset(passage for passage in passages if len(passage) >= shortest and passage not in public)


def _letters(text: str) -> str:
    """The letters and digits of `text`, in lower case: they survive another format and other line breaks."""
    return re.sub(r"[\W_]+", "", text).lower()


def _formula(text: str) -> str:
    """A formula without spaces and marks of alignment."""
    return _SPACES.sub("", text)
