"""Compose Markdown from the source of a handout: what students read, on paper and on GitHub, and the key."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from src.grading.homework import Homework
from src.grading.results import points_of
from staff.declaration import solution_folder
from staff.handout.points import Scores, described
from staff.handout.source import ANSWER, BONUS, PRACTICE, REGULAR, RUBRIC, Place, Question, Text, template_files
from staff.make_stubs import filled

_FIGURE = re.compile(r'^!\[(?P<caption>.+?)\]\((?P<file>[^)\s]+)\)\{alt="(?P<alt>[^"]+)"\}$', re.M | re.S)
_PLACEHOLDER = re.compile(r"\{\{([\w-]+)\}\}")


@dataclass(frozen=True)
class Handout:
    """A homework, its handout's source, and its points."""

    homework: Homework
    scores: Scores

    def for_print(self) -> str:
        """The students' handout, as Markdown for pandoc."""
        return self._document(lambda text: "" if text.block else text.text)

    def for_github(self) -> str:
        """The students' handout, as Markdown for pandoc that becomes Markdown for GitHub."""
        keys = self.scores.source.keys
        body = self._document(lambda text: "" if text.block else _FIGURE.sub(_figure_with_caption_below, text.text))
        return f"# {keys['title']}: {keys['subtitle'][0].lower()}{keys['subtitle'][1:]}\n\n{body}"

    def key(self) -> str:
        """The handout with everything for staff, as Markdown for pandoc."""
        return self._document(lambda text: _boxed(text.block, text.text) if text.block else text.text, self._of_part)

    def title_of(self, question: Question) -> str:
        """The heading of a question, with its points."""
        number = f"Problem {question.number}." if question.number == question.problem else question.number
        points = described(self.scores.points[question.number], self.scores.kinds[question.number])
        return f"{number} {question.title} ({points})"

    def _document(self, shown: Callable[[Text], str], of_part: Callable[[str], str] = lambda number: "") -> str:
        """All headings, and below each its texts as they are `shown`, with what `of_part` says after the first."""
        source = self.scores.source
        pieces = [self._with_values(text, shown(text)) for text in source.introduction]
        for question in source.questions:
            pieces.append(f"{'#' * question.level} {self.title_of(question)}")
            texts = [self._with_values(text, shown(text)) for text in question.texts]
            pieces += [texts[0], of_part(question.part) if question.part else "", *texts[1:]]
        return "\n\n".join(piece.strip("\n") for piece in pieces if piece) + "\n"

    def _with_values(self, text: Text, markdown: str) -> str:
        """`markdown`, made from `text`, with each `{{name}}` replaced.

        Raises:
            HandoutError: there is no value of this name.
        """

        def value(match: re.Match[str]) -> str:
            if match[1] not in VALUES:
                line = text.text.count("\n", 0, text.text.find(match[0]))
                place = Place(text.place.path, text.place.line + line)
                known = ", ".join((*VALUES, *self.scores.source.keys))
                raise place.error(f"{match[0]} is unknown; known are {known}")
            return VALUES[match[1]](self)

        return _PLACEHOLDER.sub(value, markdown)

    def _of_part(self, number: str) -> str:
        """The answer and the points of a part that is programmed, from the reference answers and the tests."""
        path = solution_folder(self.homework) / self.homework.part(number).file
        blocks = []

        def keep(part: str, code: str) -> str:
            blocks.extend([code] if part == number else [])
            return code

        filled(path.read_text(encoding="utf-8"), keep)
        code = "\n\n".join(blocks)
        points = points_of(self.homework)[number]
        answer = f"The reference answer in `{path.parent.name}/{path.name}`:\n\n```python\n{code}\n```"
        rubric = (
            f"No points. `grader.py {number}` runs the tests."
            if not points.total
            else f"`grader.py` gives {points.visible:g} points for visible and {points.hidden:g} for hidden tests."
        )
        return f"{_boxed(ANSWER, answer)}\n\n{_boxed(RUBRIC, rubric)}"


def _boxed(block: str, text: str) -> str:
    """`text` in the box of this kind, which `template.typ` defines."""
    opening, closing = f"```{{=typst}}\n#{block}[\n```", "```{=typst}\n]\n```"
    return "\n\n".join((opening, text.strip("\n"), closing))


def _figure_with_caption_below(figure: re.Match[str]) -> str:
    """A figure for GitHub, which shows no formulas in HTML: its caption is a paragraph."""
    return f"![{figure['alt']}]({figure['file']})\n\n**Figure.** {figure['caption']}"


def _points_table(handout: Handout) -> str:
    """Each problem, and each question of a kind of its own, with its points."""
    scores = handout.scores
    lines = ["| problem | on paper | with code |", "| :--- | ---: | ---: |"]
    for problem in (each for each in scores.source.questions if each.number == each.problem):
        for kind, note in ((REGULAR, ""), (BONUS, ", bonus"), (PRACTICE, ", practice")):
            leaves = [q for q in scores.source.leaves if (q.problem, scores.kinds[q.number]) == (problem.number, kind)]
            if leaves:
                cells = (_sum(scores, leaves, programmed) for programmed in (False, True))
                lines.append(f"| {problem.number} {problem.title}{note} | {' | '.join(cells)} |")
    written, programmed = (f"{scores.total(REGULAR, of):g}" for of in (False, True))
    others = [kind for kind in (BONUS, PRACTICE) if kind in scores.kinds.values()]
    without = f", without {' and '.join(others)}" if others else ""
    lines.append(f"| **{scores.total(REGULAR):g} points{without}** | **{written}** | **{programmed}** |")
    return "\n".join(lines)


def _sum(scores: Scores, leaves: list[Question], programmed: bool) -> str:
    """The points of those that are programmed, or of the others; empty if there are none."""
    each = [scores.points[leaf.number] for leaf in leaves if (leaf.part is not None) == programmed]
    return f"{sum(each):g}" if any(each) else ""


def _files_list(handout: Handout) -> str:
    """Each part that is programmed, with its block and its files."""
    homework, lines = handout.homework, []
    for part in (part for number in homework.numbers if (part := homework.part(number)).artifacts):
        files = ", ".join(f"`{artifact.name}`" for artifact in part.artifacts)
        lines.append(f"- **{part.number}**, `{part.function}` in `{part.file}`: {files}")
    return "\n".join(lines)


VALUES: Mapping[str, Callable[[Handout], str]] = {
    "points": _points_table,
    "files": _files_list,
    "written": lambda handout: f"{handout.scores.total(REGULAR, False):g}",
    "programmed": lambda handout: f"{handout.scores.total(REGULAR, True):g}",
    "written-bonus": lambda handout: f"{handout.scores.total(BONUS, False):g}",
    "programmed-bonus": lambda handout: f"{handout.scores.total(BONUS, True):g}",
    "homework": lambda handout: handout.homework.name,
    "zip": lambda handout: f"`{handout.homework.zip_name}`",
    "templates": lambda handout: ", ".join(f"`{Path(name).name}`" for name in template_files(handout.homework)),
}
