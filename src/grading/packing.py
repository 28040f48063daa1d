"""Pack `questions/` and `submit/` for the upload: what make_submission.sh does.

What is there is packed, and what is missing, stale or not written yet is said. Only a student's file that cannot be
graded stops it.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from src.errors import RecordError, SubmissionError
from src.files import write_file
from src.grading.homework import Homework
from src.grading.record import RECORD, Record, read_record
from src.grading.results import has_hidden_tests, points_of
from src.grading.student_code import left_line
from src.grading.submission import Problem, artifact_problems, source_problem, unwritten_blocks

NO_POINTS = "note: files in submit/ neither earn nor cost points in the autograder, but the staff may look at them"


def pack(homework: Homework, root: Path | None = None) -> int:
    """Write the submission in `root` there as a zip, and say what is in it and what is not. Returns 0.

    `root` is the homework's own folder by default. An older zip is replaced once the new one is complete.

    Raises:
        SubmissionError: one of the student's files cannot be graded.
        OutputError: the zip cannot be written.
    """
    root = root or homework.home
    sources, notes = _sources(homework, root)
    artifacts, problems = _artifacts(homework, root), artifact_problems(homework, root, root)
    notes += _part_notes(homework, root, problems, artifacts)
    notes += _setting_notes(homework, _record(root))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (*sources, *artifacts):
            content = (root / name).read_bytes()
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
            print(f"  {name:<52} {len(content):>9,} bytes")
    write_file(root / homework.zip_name, buffer.getvalue())
    print("\n".join([*notes, f"wrote {homework.zip_name}: upload it to Gradescope"]))
    return 0


def _record(root: Path) -> Record:
    """The record of submit/; an empty one where there is none, or a damaged one."""
    try:
        return read_record(root / "submit") or Record()
    except RecordError:
        return Record()


def _sources(homework: Homework, root: Path) -> tuple[list[str], list[str]]:
    """The Python files of questions/, and a note for each that the homework does not ask for and nobody can read.

    Raises:
        SubmissionError: a file that the homework asks for cannot be graded.
    """
    asked = [root / "questions" / name for name in homework.question_files]
    if problems := [problem for path in asked if (problem := source_problem(homework, path))]:
        old = "; the one that is there is an older one" if (root / homework.zip_name).exists() else ""
        raise SubmissionError("\n".join([f"{homework.zip_name} was not made{old}", *problems]))
    others = {path: source_problem(homework, path) for path in (root / "questions").glob("*.py") if path not in asked}
    sources = sorted([*asked, *(path for path, problem in others.items() if not problem)])
    notes = [f"note: left out: {problem}" for problem in others.values() if problem]
    return [path.relative_to(root).as_posix() for path in sources], notes


def _artifacts(homework: Homework, root: Path) -> list[str]:
    """The files of submit/ that can be read, whichever code made them."""
    names = [RECORD] if _record(root).parts else []
    for number in homework.all_numbers:
        for artifact in homework.part(number).artifacts:
            path = root / "submit" / artifact.name
            if path.is_file() and artifact.problem(path) is None:
                names.append(artifact.name)
    return [f"submit/{name}" for name in names]


def _part_notes(homework: Homework, root: Path, problems: Sequence[Problem], packed: Sequence[str]) -> Iterator[str]:
    """What each part lacks, and what that costs."""
    yield from (f"note: {problem}" for problem in problems if problem.part is None)
    blocks = {
        number: (f"questions/{name}, line {block.number}", block.is_begun)
        for name in homework.question_files
        for number, block in unwritten_blocks((root / "questions" / name).read_bytes()).items()
    }
    own = {number: [problem for problem in problems if problem.part == number] for number in homework.numbers}
    lacking = [number for number in homework.numbers if number in blocks or own[number]]
    points = points_of(homework) if any(number in blocks for number in lacking) else {}  # takes a second
    for number in lacking:
        part = homework.part(number)
        if number in blocks:
            worth = points[number].total if has_hidden_tests(homework) else 2 * points[number].visible
            name = f"{number} {part.title} ({worth:g} points{', bonus' if part.bonus else ''})"
            place, is_begun = blocks[number]
            state = "is not written yet and earns nothing"
            yield f"note: {name}: {place}: {left_line(number)}" if is_begun else f"note: {name} {state}: {place}"
            continue
        state = "out of date" if all(problem.file in packed for problem in own[number]) else "not complete"
        yield f"note: {number} {part.title} is {state} in submit/; {own[number][0].remedy}"
        for problem in own[number]:
            yield f"    {problem.file}: {problem.what}{'; packed as it is' if problem.file in packed else ''}"
    if any(number not in blocks for number in lacking):
        yield NO_POINTS


def _setting_notes(homework: Homework, record: Record) -> Iterator[str]:
    """How the parts were made, and by which code."""
    made_with: dict[str, list[str]] = {}
    for number, entry in record.parts.items():
        made_with.setdefault(homework.describe(entry.made_with), []).append(number)
    if len(made_with) == 1:
        yield f"made with {min(made_with)}"
    elif made_with:
        each = "; ".join(f"{', '.join(numbers)} with {settings}" for settings, numbers in made_with.items())
        yield f"note: made with different settings, which is accepted: {each}"
    folders = sorted({entry.questions for entry in record.parts.values()} - {"questions"})
    if folders:
        yield f"note: submit/ was made by the code in {', '.join(folders)}, not by the code in questions/"
