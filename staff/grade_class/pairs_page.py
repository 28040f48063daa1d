"""The page of the pairs to look at: their blocks side by side."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from src.grading.homework import Homework
from src.grading.pages.rendering import rendered
from staff.grade_class.blocks import starter
from staff.grade_class.similarity import SHORT, Answers, Pair, PartScore
from staff.grade_class.tokens import LENGTH, code_of, grams, grams_of, names_in

TEMPLATES = Path(__file__).parent / "templates"
MOST_LINES = 60  # of a block


def pairs_page(homework: Homework, pairs: Sequence[Pair], answers: Sequence[Answers], names: Mapping[str, str]) -> str:
    """The page that shows `pairs`, which are of these `answers`.

    Args:
        names: what each submission of the class is called, by its id; one of an archive is called by its id
    """

    def who(entry: Answers) -> str:
        return f"{entry.id} ({entry.archive})" if entry.archive else names.get(entry.id, entry.id)

    def marked(entry: Answers, other: Answers, part: str) -> list[tuple[str, bool]]:
        return marked_lines(homework, part, entry.blocks.get(part, ""), other.blocks.get(part, ""))

    return rendered(
        "pairs.html", (TEMPLATES,), style=(TEMPLATES / "pairs.css").read_text(encoding="utf-8"), homework=homework,
        pairs=pairs, count=len(answers), archives=sum(bool(entry.archive) for entry in answers), length=LENGTH,
        short=SHORT, who=who, marked=marked, score=_score,
    )  # fmt: skip


def marked_lines(homework: Homework, part: str, block: str, other: str) -> list[tuple[str, bool]]:
    """The lines of `block`, without the indentation that all have, and whether most of each is in `other`, too."""
    lines = textwrap.dedent("\n".join(block.splitlines())).split("\n")
    given = names_in(starter(homework, part))
    known = grams_of(code_of(other, given))
    shared: set[int] = set()
    for line in code_of("\n".join(lines), given).lines:
        own = grams(line)
        if len(own & known) > len(own) / 2:
            shared.update(range(line.first, line.last + 1))
    shown = [(line, number in shared) for number, line in enumerate(lines[:MOST_LINES])]
    return shown + ([("…", False)] if len(lines) > MOST_LINES else [])


def _score(part: PartScore) -> str:
    return f"({part.score:.2f})" if part.is_short else f"{part.score:.2f}"
