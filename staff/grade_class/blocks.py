"""The blocks of a submission: what a student wrote between the marks of each part."""

import functools
import re
from pathlib import Path

from src.grading.homework import Homework
from staff.declaration import solution_folder
from staff.make_stubs import TODO, part_numbers, stub

MAX_BLOCK = 20_000  # characters that are looked at
_MARK = re.compile(r"\W*(START|END)\s+CODE\s+HERE\W*", re.IGNORECASE)


def blocks_of(homework: Homework, questions: Path) -> dict[str, str]:
    """Part → the student's block, in the unpacked folder `questions`; "" where there is none.

    Where the marks are gone, it is the whole function of the part.
    """
    blocks: dict[str, str] = {}
    for file in homework.question_files:
        source = _read(questions / file, homework.limits.source_size)
        numbers = _numbers(homework, file)
        marked = _marked(source, numbers)
        for number in numbers:
            blocks[number] = marked.get(number) or _function(source, homework.part(number).function)
    return {number: blocks.get(number, "")[:MAX_BLOCK] for number in homework.numbers}


@functools.cache
def starter(homework: Homework, part: str) -> str:
    """The file in which students write this part, as they get it."""
    path = solution_folder(homework) / homework.part(part).file
    return stub(path.read_text(encoding="utf-8"), path.name)


@functools.cache
def _numbers(homework: Homework, file: str) -> tuple[str, ...]:
    """The parts whose blocks are in `file`, from top to bottom."""
    return tuple(part_numbers(solution_folder(homework) / file))


def _read(path: Path, most: int) -> str:
    """The text of a student's file; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def _marked(source: str, numbers: tuple[str, ...]) -> dict[str, str]:
    """Part → the block between its marks; the TODO above it says which part it is, or else the order does."""
    found: list[tuple[str | None, str]] = []
    todo: str | None = None
    block: list[str] | None = None
    for line in source.splitlines():
        if mark := _MARK.fullmatch(line):
            if mark[1].upper() == "START":
                block = []
            elif block is not None:
                found.append((todo, "\n".join(block)))
                block = todo = None
        elif block is not None:
            block.append(line)
        elif match := TODO.search(line):
            todo = match[1]
    in_order = dict(zip(numbers, (code for _, code in found), strict=False)) if len(found) == len(numbers) else {}
    return in_order | {number: code for number, code in found if number in numbers}


def _function(source: str, name: str) -> str:
    """The definition of the function or class `name`; "" where there is none."""
    match = re.search(rf"^(?:def|class)[ \t]+{re.escape(name)}\b.*\n(?:(?:[ \t)#].*)?\n)*", source + "\n", re.MULTILINE)
    return match[0] if match else ""
