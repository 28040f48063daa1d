"""Make the students' `questions/` from the reference answers in `staff/solution/`: the same files without the answers.

    python -m staff.make_stubs

What stands between the two marks is replaced by a NotImplementedError with the number of the nearest TODO above it.
"""

import re
import sys
import textwrap
from collections.abc import Callable

from src.artifacts import write_file
from src.config import ROOT
from src.errors import UserError

START, END = "### START CODE HERE ###", "### END CODE HERE ###"


def stub(source: str, name: str = "the answer") -> str:
    """`source` with each marked block replaced by a line that raises NotImplementedError with the part's number.

    Raises:
        UserError: a mark is without its counterpart, or a block without a TODO that says the part.
    """
    return filled(source, lambda part, _: f'raise NotImplementedError("{part}")', name)


def filled(source: str, answer: Callable[[str, str], str], name: str = "the answer") -> str:
    """`source` with each marked block replaced by what `answer` makes of its part and its code, without indentation.

    Raises:
        UserError: as `stub` does.
    """
    lines, block, part, inside = [], [], None, False
    for number, line in enumerate(source.splitlines(), start=1):
        todo = re.search(r"# TODO (\d+\.\d+)", line)
        part = todo.group(1) if todo else part
        if START in line or END in line:
            if inside == (START in line) or part is None:
                raise UserError(f"{name}, line {number}: misplaced mark; a block is a TODO with its part, START, END")
            if inside:
                code = answer(part, textwrap.dedent("\n".join(block)))
                lines += textwrap.indent(code, line[: line.index(END)]).splitlines()
                block, part = [], None
            inside = not inside
            lines.append(line)
        else:
            (block if inside else lines).append(line)
    if inside:
        raise UserError(f"{name}: a block is not closed with {END}")
    return "\n".join(lines) + "\n"


def main() -> None:
    for solution in sorted((ROOT / "staff" / "solution").glob("*.py")):
        target = ROOT / "questions" / solution.name
        write_file(target, stub(solution.read_text(encoding="utf-8"), solution.name).encode("utf-8"))
        print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
