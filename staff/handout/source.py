"""Read the source of a handout: Markdown in `staff/NAME/written/*.md`, in the order of the files' names.

The first file begins, between two lines `---`, with the title, with what the points must add up to, and with values
that are measured or stand in several places: `nelbo: 98.0` replaces each `{{nelbo}}`. Beside ordinary Markdown with
LaTeX math, the files hold:

    ## Title {number=3 points=15}         a problem
    ### Title {number=3.1 points=3}       a question of it; `kind=bonus` or `kind=practice` if it does not count
    ### Title {number=6.3 part=6.3}       a question that is programmed: HOMEWORK and its tests say how many points
    ::: {.answer}                         for staff only, up to a line `:::`; likewise .rubric, .errors and .staff
    {{points}}                            what `staff/handout/compose.py` computes

Each top-level item of a rubric begins with its points, `- **2**`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from src.errors import UserError
from src.files import ROOT, shown
from src.grading.homework import Homework

REGULAR, BONUS, PRACTICE = "regular", "bonus", "practice"
ANSWER, RUBRIC, ERRORS, STAFF = "answer", "rubric", "errors", "staff"
BLOCKS = (ANSWER, RUBRIC, ERRORS, STAFF)
_KINDS = (REGULAR, BONUS, PRACTICE)
_ATTRIBUTES = ("number", "points", "part", "kind")
_HEADING = re.compile(r"(#{1,6}) (.*?)(?: \{([^}]*)\})?$")
_OPENING = re.compile(r"::: *\{\.(\w+)\}$")
_PLACEHOLDER = re.compile(r"\{\{([\w-]+)\}\}")
_RUBRIC_ITEM = re.compile(r"^- \*\*([\d.]+)\*\* ", re.M)


class HandoutError(UserError):
    """Why no handout was made: names the file, the line and the remedy."""


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    path: Path
    line: int

    def error(self, message: str) -> HandoutError:
        """The error that `message` tells of this line."""
        return HandoutError(f"{shown(self.path)}:{self.line}: {message}")


@dataclass(frozen=True)
class Text:
    """Markdown that is not changed, or, in a block, for staff only."""

    place: Place
    text: str
    block: str = ""  # answer, rubric, errors or staff; "" for what students get


@dataclass
class Question:
    """A heading with a number, and what stands below it."""

    place: Place
    level: int
    title: str
    number: str
    kind: str
    points: float | None  # as the source says
    part: str | None  # the part of HOMEWORK that is programmed here
    texts: list[Text] = field(default_factory=list)

    @property
    def problem(self) -> str:
        """The number of the problem that it belongs to."""
        match = re.match(r"\d+", self.number)
        return match[0] if match else self.number

    def block(self, name: str) -> Text | None:
        """Its block of this kind."""
        return next((text for text in self.texts if text.block == name), None)


@dataclass(frozen=True)
class Source:
    """The whole source of a handout."""

    place: Place  # of the keys at its beginning
    keys: dict[str, str]
    introduction: list[Text]
    questions: list[Question]

    @property
    def leaves(self) -> list[Question]:
        """The questions that are answered: all but the problems that have questions of their own."""
        parents = {each.problem for each in self.questions if each.number != each.problem}
        return [each for each in self.questions if each.number not in parents]

    def texts(self) -> Iterator[Text]:
        """All texts, in their order."""
        yield from self.introduction
        for question in self.questions:
            yield from question.texts


def written_folder(homework: Homework) -> Path:
    """Where the source of its handout is."""
    return ROOT / "staff" / homework.name / "written"


def template_files(homework: Homework) -> list[str]:
    """The answer templates, in the project."""
    return [f"docs/template/{homework.name}-answers.{ending}" for ending in ("md", "tex", "typ")]


def handout_files(homework: Homework) -> list[str]:
    """What students get of the handout, in the project; nothing where the homework has none."""
    if not written_folder(homework).is_dir():
        return []
    figures = [shown(path) for path in sorted((ROOT / "docs").glob(f"{homework.name}-*.svg"))]
    return [f"docs/{homework.name}.pdf", f"docs/{homework.name}.md", *figures, *template_files(homework)]


def read_source(folder: Path) -> Source:
    """The source in `folder`.

    Raises:
        HandoutError: a file cannot be understood.
    """
    paths = sorted(folder.glob("*.md"))
    if not paths:
        raise HandoutError(f"{shown(folder)}: holds no Markdown; write the handout's source there")
    keys: dict[str, str] = {}
    introduction: list[Text] = []
    questions: list[Question] = []
    for path in paths:
        lines, first = path.read_text(encoding="utf-8").splitlines(), 0
        if path == paths[0]:
            keys, first = _keys(path, lines)
        for item in _items(path, [_with_values(line, keys) for line in lines], first):
            if isinstance(item, Question):
                questions.append(item)
            else:
                (questions[-1].texts if questions else introduction).append(item)
    return Source(Place(paths[0], 1), keys, introduction, questions)


def rubric_points(rubric: Text) -> float:
    """What the items of a rubric add up to."""
    return sum(map(float, _RUBRIC_ITEM.findall(rubric.text)))


def line_of(index: int, text: str, plain: Callable[[str], str]) -> int:
    """The line of `text` that holds the character at `index` of `plain(text)`; `plain` drops characters."""
    for number, line in enumerate(text.splitlines(), start=1):
        index -= len(plain(line))
        if index < 0:
            return number
    return 1


def _keys(path: Path, lines: list[str]) -> tuple[dict[str, str], int]:
    """The keys at the beginning of the first file, and the line after them."""
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        raise Place(path, 1).error("the first file must begin with `---`, keys such as `total: 100`, and `---`")
    end = lines.index("---", 1)
    keys = {}
    for number, line in enumerate(lines[1:end], start=2):
        key, colon, value = line.partition(":")
        if not colon or not value.strip():
            raise Place(path, number).error(f"{line!r} is not `key: value`")
        keys[key.strip()] = value.strip()
    for needed in ("title", "subtitle", "total", "bonus"):
        if needed not in keys:
            raise Place(path, 1).error(f"the key {needed} is missing; add a line `{needed}: …`")
    return keys, end + 1


def _with_values(line: str, keys: dict[str, str]) -> str:
    """`line` with the values of the keys that it names; other names are for `staff/handout/compose.py`."""
    return _PLACEHOLDER.sub(lambda match: keys.get(match[1], match[0]), line)


def _items(path: Path, lines: list[str], first: int) -> Iterator[Text | Question]:
    """The headings with a number, and the texts and blocks between them."""
    block, start, in_code = "", first, False
    collected: list[str] = []
    for index in range(first, len(lines)):
        line, place = lines[index], Place(path, index + 1)
        in_code ^= line.lstrip().startswith("```")
        heading = None if in_code or block else _HEADING.match(line)
        if not in_code and line.startswith(":::"):
            yield Text(Place(path, start + 1), "\n".join(collected), block)
            block = _closed_or_opened(line, block, Place(path, start), place)
            start, collected = index + 1, []
        elif heading and heading[3] is not None:
            yield Text(Place(path, start + 1), "\n".join(collected))
            yield _question(place, heading)
            start, collected = index + 1, []
        else:
            collected.append(line)
    if block:
        raise Place(path, start).error(f"the block .{block} is not closed; end it with a line `:::`")
    yield Text(Place(path, start + 1), "\n".join(collected))


def _closed_or_opened(line: str, block: str, opened: Place, place: Place) -> str:
    """The block that the line `:::…` at `place` leads into, from inside of `block`, which began at `opened`."""
    if line.rstrip() == ":::":
        if not block:
            raise place.error("closes a block, but none is open; remove the line, or open one with `::: {.answer}`")
        return ""
    match = _OPENING.match(line.rstrip())
    if block:
        raise opened.error(f"the block .{block} is not closed before line {place.line}; end it with a line `:::`")
    if not match or match[1] not in BLOCKS:
        known = ", ".join(f"`::: {{.{name}}}`" for name in BLOCKS)
        raise place.error(f"unknown block {line.removeprefix(':::').strip()!r}; known are {known}")
    return match[1]


def _question(place: Place, heading: re.Match[str]) -> Question:
    attributes = dict(re.findall(r"(\w+)=(\S+)", heading[3]))
    for word in heading[3].split():
        if word.partition("=")[0] not in _ATTRIBUTES or "=" not in word:
            raise place.error(f"unknown attribute {word!r}; known are {', '.join(f'{a}=…' for a in _ATTRIBUTES)}")
    if "number" not in attributes:
        raise place.error("the heading has attributes, but no number=…")
    kind = attributes.get("kind", "")
    if kind and kind not in _KINDS:
        raise place.error(f"kind={kind} is unknown; known are {', '.join(_KINDS)}")
    points = attributes.get("points")
    if points is not None and not re.fullmatch(r"\d+(\.\d+)?", points):
        raise place.error(f"points={points} is not a number")
    return Question(
        place, len(heading[1]), heading[2], attributes["number"], kind or REGULAR,
        None if points is None else float(points), attributes.get("part"),
    )  # fmt: skip
