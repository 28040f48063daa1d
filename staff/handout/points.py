"""How many points each question of a handout has, and whether they add up."""

from dataclasses import dataclass

from src.grading.homework import Homework
from src.grading.results import points_of
from staff.handout.source import (
    ANSWER,
    BLOCKS,
    BONUS,
    ERRORS,
    PRACTICE,
    REGULAR,
    RUBRIC,
    STAFF,
    HandoutError,
    Question,
    Source,
    rubric_points,
)  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """The points of a handout's questions and problems, by number."""

    points: dict[str, float]  # of a problem: see `_of_problem`
    kinds: dict[str, str]
    source: Source

    def total(self, kind: str, programmed: bool | None = None) -> float:
        """The points of all questions of a kind; of those that are programmed or written, if asked."""
        return sum(
            self.points[leaf.number]
            for leaf in self.source.leaves
            if self.kinds[leaf.number] == kind and programmed in (None, leaf.part is not None)
        )


def scores(source: Source, homework: Homework) -> Scores:
    """The points of every question.

    Raises:
        HandoutError: a piece is missing, or the points do not add up.
    """
    _check_numbers(source)
    declared = {number: each.total for number, each in points_of(homework).items()}
    points, kinds = {}, {}
    for leaf in source.leaves:
        points[leaf.number], kinds[leaf.number] = _points_and_kind(leaf, source, homework, declared)
        _check_pieces(leaf, points[leaf.number])
    for problem in source.questions:
        if problem not in source.leaves:
            points[problem.number], kinds[problem.number] = _of_problem(problem, source, points, kinds)
    result = Scores(points, kinds, source)
    _check_parts(source, declared)
    for key, kind in (("total", REGULAR), ("bonus", BONUS)):
        if f"{result.total(kind):g}" != source.keys[key]:
            each = " + ".join(f"{points[q.number]:g}" for q in source.leaves if kinds[q.number] == kind)
            raise source.place.error(
                f"{key}: {source.keys[key]}, but the questions' points add up to {result.total(kind):g} ({each}); "
                "correct the one or the other"
            )
    return result


def _check_numbers(source: Source) -> None:
    seen: dict[str, Question] = {}
    for question in source.questions:
        if question.number in seen:
            first = seen[question.number].place.line
            raise question.place.error(f"the number {question.number} is taken by line {first}; give it another one")
        seen[question.number] = question
        if question.problem not in seen:
            raise question.place.error(f"{question.number} stands above problem {question.problem}; move it below")


def _points_and_kind(
    leaf: Question, source: Source, homework: Homework, declared: dict[str, float]
) -> tuple[float, str]:
    problem = next(each for each in source.questions if each.number == leaf.problem)
    kind = problem.kind if leaf.kind == REGULAR else leaf.kind
    if leaf.part is None:
        if leaf.points is None:
            raise leaf.place.error(f"{leaf.number} has neither points=… nor part=…")
        return leaf.points, kind
    if leaf.points is not None:
        raise leaf.place.error(f"{leaf.number} has points=…, but those of a part are at its tests; remove them")
    if leaf.part not in declared:
        raise leaf.place.error(f"part={leaf.part} is not declared in {homework.package}.parts")
    return declared[leaf.part], BONUS if homework.part(leaf.part).bonus else kind


def _check_pieces(leaf: Question, points: float) -> None:
    """Check that a written question has an answer, a rubric and the common errors, and a programmed one the last."""
    needed = (ERRORS,) if leaf.part else (ANSWER, RUBRIC, ERRORS)
    for name in BLOCKS:
        found = [text for text in leaf.texts if text.block == name]
        if name in needed and not found:
            raise leaf.place.error(f"{leaf.number} has no block `::: {{.{name}}}`; add one below it")
        if name not in (*needed, STAFF) and found:
            raise found[0].place.error(f"{leaf.number} is programmed: its .{name} comes from the tests and the answers")
        if len(found) > 1 and name != STAFF:
            raise found[1].place.error(f"{leaf.number} has two blocks .{name}; join them")
    rubric = leaf.block(RUBRIC)
    if rubric and rubric_points(rubric) != points:
        raise rubric.place.error(
            f"the rubric of {leaf.number} adds up to {rubric_points(rubric):g} points, not to {points:g}; "
            "begin each of its items with `- **points**`"
        )


def _of_problem(
    problem: Question, source: Source, points: dict[str, float], kinds: dict[str, str]
) -> tuple[float, str]:
    """The points of all its questions of one kind: those that count, if it has any, else its own."""
    numbers = [leaf.number for leaf in source.leaves if leaf.problem == problem.number]
    kind = REGULAR if REGULAR in (kinds[number] for number in numbers) else problem.kind
    total = sum(points[number] for number in numbers if kinds[number] == kind)
    if problem.points not in (None, total):
        raise problem.place.error(
            f"problem {problem.number} has {problem.points:g} points, but its questions have {total:g}; "
            "correct the one or the other"
        )
    return total, kind


def _check_parts(source: Source, declared: dict[str, float]) -> None:
    """Check that every part that has points has a heading."""
    asked = {question.part for question in source.questions}
    for number, points in declared.items():
        if points and number not in asked:
            place = f"add a heading with {{number={number} part={number}}} to {source.place.path.parent.name}/"
            raise HandoutError(f"part {number} has {points:g} points, but stands nowhere in the handout; {place}")


def described(points: float, kind: str) -> str:
    """ "10 points", "5 bonus points", "practice, 2 points", or "optional" without any."""
    if not points:
        return "optional"
    unit = "point" if points == 1 else "points"
    return {REGULAR: f"{points:g} {unit}", BONUS: f"{points:g} bonus {unit}", PRACTICE: f"practice, {points:g} {unit}"}[
        kind
    ]
