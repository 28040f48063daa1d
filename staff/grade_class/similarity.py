"""Pairs of answers to look at: whose blocks share what few others in the class have.

Compared are the blocks of each part, as sets of neighbouring tokens (`tokens.py`): names do not matter, nor does the
order of lines. What many have in common weighs little: neighbours in d of n blocks weigh log((n + 1) / d). The *score*
of a part is the weight of what two blocks share, divided by the weight of all that is in either (Jaccard). A pair is
ranked by the sum, over its parts, of score times rarity: the root of the sum of the squared weights of what is shared.
So two rare blocks that are the same say more than one twice as long. Short blocks all look alike: they count only
where a longer one is similar, too. A comment that few others wrote counts by itself.

A high rank says where to look, and nothing about who wrote what.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from src.errors import IntakeError
from src.grading import intake
from src.grading.homework import Homework
from staff.grade_class.blocks import blocks_of, starter
from staff.grade_class.metadata import Student
from staff.grade_class.submissions import Handed, read
from staff.grade_class.tokens import code_of, grams_of, names_in
from staff.grade_class.weighted_sets import Matrix, Sets

SHORT = 20  # tokens: a block with fewer never counts alone
SIMILAR = 0.3  # the score from which a part is similar
ODD = 0.02  # a comment is odd if so few of the class have it, or two of them
MOST_WORDS = 10  # of a comment that count
_ROWS = 500  # submissions that are compared with all others at a time: so little memory is needed at once


@dataclass(frozen=True)
class Answers:
    """The blocks of one submission."""

    id: str
    students: tuple[Student, ...]
    blocks: Mapping[str, str]  # part → code
    archive: str = ""  # the archive that it is from; "" is the class


@dataclass(frozen=True)
class PartScore:
    """How similar two blocks are."""

    part: str
    score: float  # 0 to 1
    is_short: bool


@dataclass(frozen=True)
class Pair:
    """Two submissions to look at."""

    first: Answers
    second: Answers
    weight: float  # how much what they share says; the heaviest come first
    parts: tuple[PartScore, ...]
    comments: tuple[str, ...]  # that both have, and hardly anybody else


def pairs_to_look_at(homework: Homework, answers: Sequence[Answers], most: int = 30) -> list[Pair]:
    """The pairs of `answers` that share most, in descending order; at least one of a pair is of the class."""
    if len(answers) < 2:
        return []
    compared = [_Part(homework, part, [entry.blocks.get(part, "") for entry in answers]) for part in homework.numbers]
    comments = _odd_comments(compared)
    allowed, found = _may_be_compared(answers), list[tuple[float, int, int]]()
    for first in range(0, len(answers), _ROWS):
        rows = slice(first, first + _ROWS)
        weight = _weights(compared, comments, rows) * allowed[rows]
        places = np.argwhere(weight > 0)
        heaviest = np.argsort(-weight[weight > 0], kind="stable")[:most]
        found += [(float(weight[i, j]), first + i, j) for i, j in places[heaviest].tolist()]
    found.sort(key=lambda pair: -pair[0])
    pairs: list[Pair] = []
    for heavy, i, j in found[:most]:
        scores = tuple(part.score(i, j) for part in compared)
        pairs.append(Pair(answers[i], answers[j], heavy, scores, tuple(comments.common(i, j))))
    return pairs


def _weights(compared: Sequence["_Part"], comments: Sets, rows: slice) -> Matrix:
    """(rows, n), how much it says what two submissions share."""
    odd = comments.rarity(rows)
    weight, short, best = np.zeros((3, *odd.shape), np.float32)
    for part in compared:
        score, rarity = part.sets.scores(rows), part.sets.rarity(rows)
        is_short = part.is_short[rows, None] | part.is_short[None, :]
        weight += np.where(is_short, 0, score * rarity)
        short += np.where(is_short, score * rarity, 0)
        best = np.maximum(best, np.where(is_short, 0, score))
    weight += np.where(best >= SIMILAR, short, 0) + odd
    weight[(best < SIMILAR) & (odd == 0)] = 0
    return weight.round(3)  # so that equal pairs stay in the order of the class, whatever the processor rounds


def archived(homework: Homework, source: Path, unpack: Callable[[Path, Path], intake.Submission]) -> list[Answers]:
    """The answers in an archive of another year: an export, or a folder of zips and folders.

    Args:
        unpack: puts the files of a submission into a folder

    Raises:
        ExportError: there is nothing in it.
    """
    with TemporaryDirectory(prefix="archive-") as folder:
        (Path(folder) / "export").mkdir()
        found: list[Answers] = []
        for handed in read(source, Path(folder) / "export").submissions:
            if handed.path:
                with TemporaryDirectory(dir=folder) as into:
                    try:
                        questions = unpack(handed.path, Path(into)).questions
                    except IntakeError:
                        continue  # nothing to compare in it
                    found.append(answers_of(handed, blocks_of(homework, questions), source.stem))
        return found


def answers_of(handed: Handed, blocks: Mapping[str, str], archive: str = "") -> Answers:
    """The blocks of the submission `handed`."""
    return Answers(handed.id, handed.students, blocks, archive)


class _Part:
    """The blocks of one part, one of each submission."""

    def __init__(self, homework: Homework, part: str, blocks: Sequence[str]) -> None:
        self.part = part
        self._given = names_in(starter(homework, part))
        self._starter = code_of(starter(homework, part), self._given)
        codes = [code_of(block, self._given) for block in blocks]
        known = grams_of(self._starter)
        self.sets = Sets([grams_of(code) - known for code in codes])
        self.comments = [code.comments - self._starter.comments for code in codes]
        self.is_short = np.array([code.length < SHORT for code in codes])

    def score(self, i: int, j: int) -> PartScore:
        """How similar the blocks of the submissions `i` and `j` are."""
        return PartScore(self.part, self.sets.score(i, j), bool(self.is_short[i] or self.is_short[j]))


def _odd_comments(parts: Sequence[_Part]) -> Sets:
    """The comments of each submission, without those that many wrote; a long one weighs more than a short one."""
    of_each = [frozenset[str]().union(*comments) for comments in zip(*(part.comments for part in parts), strict=True)]
    counts = Counter(comment for comments in of_each for comment in comments)
    most = max(2, ODD * len(of_each))
    odd = [{c for c in comments if counts[c] <= most and _words(c) >= 2} for comments in of_each]
    return Sets(odd, lambda comment: math.sqrt(_words(comment)))


def _words(comment: str) -> float:
    """About how many words a comment has, in any script; at most `MOST_WORDS`."""
    letters = "".join(filter(str.isalpha, comment))
    return min(len(letters.encode("utf-8", "replace")) / 5, MOST_WORDS)


def _may_be_compared(answers: Sequence[Answers]) -> NDArray[np.bool_]:
    """Which pairs are of different students, the first before the second, and not both of archives."""
    count = len(answers)
    allowed = np.triu(np.ones((count, count), bool), 1)
    in_class = np.array([not entry.archive for entry in answers])
    allowed &= in_class[:, None] | in_class[None, :]
    of_student: dict[str, list[int]] = {}
    for index, entry in enumerate(answers):
        for student in entry.students:
            if student.identity:
                of_student.setdefault(student.identity, []).append(index)
    for indices in of_student.values():
        allowed[np.ix_(indices, indices)] = False
    return allowed
