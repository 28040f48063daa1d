"""The page of one submission: what it earned, what to do next, and what each test saw."""

from collections.abc import Sequence
from dataclasses import dataclass

from src.grading.chart import AnyChart
from src.grading.homework import Homework
from src.grading.pages.rendering import MOST_BYTES, rendered
from src.grading.results import Results, TestResult

FIELDS = {"input": "Input", "expected": "Expected", "got": "Got", "printed": "Your code printed"}

MOST_NOTES = 40  # lines


@dataclass(frozen=True)
class Card:
    """What a page says of one test."""

    number: str
    name: str
    status: str  # "passed", "partly" or "failed"
    score: float
    max_score: float
    fields: tuple[tuple[str, str], ...]  # heading and text
    hint: str
    text: str  # where there are no fields
    reason: str = ""
    chart: AnyChart | None = None
    is_hidden: bool = False

    @property
    def lost(self) -> float:
        """The points that it did not earn."""
        return self.max_score - self.score

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to say but that it passed."""
        return not (self.fields or self.hint or self.text or self.chart)


@dataclass(frozen=True)
class PartCard:
    """What a page says of one part."""

    number: str
    title: str
    is_bonus: bool
    tests: tuple[Card, ...]

    @property
    def score(self) -> float:
        """The points that its tests earned."""
        return sum(test.score for test in self.tests)

    @property
    def max_score(self) -> float:
        """The points that they could earn."""
        return sum(test.max_score for test in self.tests)

    @property
    def failed(self) -> tuple[Card, ...]:
        """The tests that did not pass."""
        return tuple(test for test in self.tests if test.status != "passed")


@dataclass(frozen=True)
class Step:
    """One thing to do next."""

    part: PartCard
    test: Card
    lost: float  # points of the part
    text: str


def student_page(homework: Homework, results: Results, whose: str = "", remarks: Sequence[str] = ()) -> str:
    """The page of one submission, which shows no number of a hidden test.

    Args:
        whose: the students' names; "" on one's own page, which also says which commands to run
        remarks: what else to say at the top, such as when it was handed in
    """
    parts = part_cards(homework, results.tests)
    counted = [part for part in parts if part.max_score and not part.is_bonus]
    bonus = [part for part in parts if part.max_score and part.is_bonus]
    missing = [number for number in homework.numbers if number not in [part.number for part in parts]]
    notes = [line for line in results.output.splitlines() if line.strip()]
    return rendered(
        "student.html", most_bytes=MOST_BYTES, homework=homework, whose=whose, remarks=remarks, parts=parts,
        counted=counted, bonus=bonus, score=sum(part.score for part in counted),
        max_score=sum(part.max_score for part in counted), bonus_score=sum(part.score for part in bonus),
        bonus_max=sum(part.max_score for part in bonus), steps=_steps(parts),
        missing=missing if results.tests else [], notes=notes[:MOST_NOTES],
    )  # fmt: skip


def part_cards(homework: Homework, tests: Sequence[TestResult]) -> list[PartCard]:
    """The parts that were graded, in ascending order, then what belongs to no part."""
    shown = [test for test in tests if test.visibility != "hidden"]  # in Gradescope's sense: students never see it
    titles = {part.number: (part.title, part.bonus) for part in homework.parts}
    numbers = sorted({test.part for test in shown}, key=lambda number: (number not in titles, number))
    return [
        PartCard(
            number, *titles.get(number, ("Files", False)), tuple(_card(test) for test in shown if test.part == number)
        )
        for number in numbers
    ]


def _card(test: TestResult) -> Card:
    status = "passed" if test.passed else "partly" if test.score else "failed"
    if test.is_hidden:
        return Card(test.number, test.name, status, test.score, test.max_score, (), "", test.output, is_hidden=True)
    fields = tuple((title, text) for name, title in FIELDS.items() if (text := getattr(test, name)))
    text = "" if test.got else test.output
    return Card(
        test.number, test.name, status, test.score, test.max_score, fields, test.hint, text, test.reason, test.chart
    )


def _steps(parts: Sequence[PartCard]) -> list[Step]:
    """For each part that lacks something, the first test that says what; parts that lost most come first."""
    steps = []
    for part in parts:
        if not part.failed:
            continue
        test = next((test for test in part.failed if not test.is_hidden), part.failed[0])
        steps.append(Step(part, test, sum(test.lost for test in part.failed), _advice(test)))
    return sorted(steps, key=lambda step: -step.lost)


def _advice(test: Card) -> str:
    """What to do about a test that lost points, in a sentence."""
    if test.is_hidden:
        return "Your code passes the visible tests, but not a hidden one: does it work for other inputs, too?"
    if test.hint:
        return test.hint[0].upper() + test.hint[1:]
    return (test.reason or dict(test.fields).get(FIELDS["got"]) or test.text).split("\n")[0]
