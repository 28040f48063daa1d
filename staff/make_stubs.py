"""Make the students' `questions/` from the reference answers: the same files without the answers.

    python -m staff.make_stubs [--homework hw1]

What stands between the two marks is replaced by a NotImplementedError with the number of the nearest TODO above it.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from src.errors import HomeworkError, UserError
from src.files import shown, write_file
from src.grading.student_code import END, START

TODO = re.compile(r"#\s*TODO\s+(\d+(?:\.\d+)?[a-z]?)\b")  # above a block: of which part it is


def stub(source: str, name: str = "the answer") -> str:
    """`source` with each marked block replaced by a line that raises NotImplementedError with the part's number.

    Raises:
        HomeworkError: a mark is without its counterpart, or a block without a TODO that names the part.
    """
    return filled(source, lambda part, _: f'raise NotImplementedError("{part}")', name)


def filled(source: str, answer: Callable[[str, str], str], name: str = "the answer") -> str:
    """`source` with each marked block replaced by `answer(part, code)`; both codes are without indentation.

    Raises:
        HomeworkError: as `stub` does.
    """
    lines: list[str] = []
    block: list[str] = []
    part, is_inside = None, False
    for number, line in enumerate(source.splitlines(), start=1):
        todo = TODO.search(line)
        part = todo.group(1) if todo else part
        if START in line or END in line:
            if is_inside == (START in line) or part is None:
                raise HomeworkError(
                    f"{name}, line {number}: misplaced mark; a block is a TODO with its part, then START, then END"
                )
            if is_inside:
                code = answer(part, textwrap.dedent("\n".join(block)))
                lines += textwrap.indent(code, line[: line.index(END)]).splitlines()
                block, part = [], None
            is_inside = not is_inside
            lines.append(line)
        else:
            (block if is_inside else lines).append(line)
    if is_inside:
        raise HomeworkError(f"{name}: a block is not closed with {END}")
    return "\n".join(lines) + "\n"


def part_numbers(path: Path) -> list[str]:
    """The numbers of the parts whose blocks are in the file at `path`.

    Raises:
        HomeworkError: as `stub` does.
    """
    numbers: list[str] = []

    def answer(part: str, code: str) -> str:
        numbers.append(part)
        return code

    filled(path.read_text(encoding="utf-8"), answer, shown(path))
    return numbers


def stubs(solution: Path) -> dict[str, str]:
    """File name → the stub of each reference answer in the folder `solution`."""
    return {path.name: stub(path.read_text(encoding="utf-8"), shown(path)) for path in sorted(solution.glob("*.py"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homework", default="hw1", help="(%(default)s)")
    args = parser.parse_args()
    from staff.declaration import load_homework, missing_answers, solution_folder  # which imports this module

    homework = load_homework(args.homework)
    for name, content in stubs(solution_folder(homework)).items():
        path = homework.home / "questions" / name
        write_file(path, content.encode("utf-8"))
        print(f"wrote {shown(path)}")
    if missing := missing_answers(homework):
        raise HomeworkError("\n".join(missing))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
