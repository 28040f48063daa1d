"""Write what the documents say about points, parts and names from the one place where each of it is declared.

    python -m staff.tables [--homework hw1]

In a document, what stands between `<!-- NAME -->` and `<!-- /NAME -->` is written by the function NAME in `TABLES`.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from src.errors import HomeworkError, UserError
from src.files import ROOT, shown, write_file
from src.grading.homework import Homework, Part
from src.grading.results import Points, points_of
from staff import requirements
from staff.declaration import check_complete, load_homework, own_folder


def documents(homework: Homework) -> tuple[Path, ...]:
    """The documents that say what is declared: for students, and for staff."""
    return homework.home / "README.md", own_folder(homework, "staff") / "README.md"


def parts(homework: Homework) -> str:
    """For students: each part with its points, its block and its files."""
    points = points_of(homework)
    lines = ["| part | points | block | needs | what it leaves in `submit/` |", "| --- | ---: | --- | --- | --- |"]
    for part in _by_number(homework):
        files = ", ".join(f"`{artifact.name}`" for artifact in part.artifacts)
        earned = f"{points[part.number].total:g}" + (" (bonus)" if part.bonus else "")
        block = f"`{part.function}` in `{part.file}`"
        lines.append(f"| {part.number} {part.title} | {earned} | {block} | {', '.join(part.needs)} | {files} |")
    return "\n".join(lines)


def points(homework: Homework) -> str:
    """For staff: the points of each part, and how they are split."""
    lines = ["| part | visible tests | hidden tests | points |", "| --- | ---: | ---: | ---: |"]
    each = points_of(homework)
    for part in _by_number(homework):
        of_part = each[part.number]
        name = f"{part.number} {part.title}" + (" (bonus)" if part.bonus else "")
        lines.append(f"| {name} | {of_part.visible:g} | {of_part.hidden:g} | {of_part.total:g} |")
    regular = [each[part.number] for part in _by_number(homework) if not part.bonus]
    if len(regular) == len(homework.numbers):
        return "\n".join([*lines, f"| **all** | {_row(regular)} |"])
    lines.append(f"| **without the bonus** | {_row(regular)} |")
    lines.append(f"| **with it** | {_row(list(each.values()))} |")
    return "\n".join(lines)


def _by_number(homework: Homework) -> list[Part]:
    return [homework.part(number) for number in homework.numbers]  # without the optional ones


def _row(each: list[Points]) -> str:
    sums = (sum(p.visible for p in each), sum(p.hidden for p in each), sum(p.total for p in each))
    return " | ".join(f"**{value:g}**" for value in sums)


def total(homework: Homework) -> str:
    """The points that Gradescope is told: without the bonus."""
    each = points_of(homework)
    return f"{sum(each[part.number].total for part in _by_number(homework) if not part.bonus):g}"


def total_with_bonus(homework: Homework) -> str:
    """The points of a perfect submission."""
    return f"{sum(p.total for p in points_of(homework).values()):g}"


TABLES: Mapping[str, Callable[[Homework], str]] = {
    "parts": parts,
    "points": points,
    "total": total,
    "total-with-bonus": total_with_bonus,
    "zip": lambda homework: f"`{homework.zip_name}`",
    "starter": lambda homework: f"`{shown(own_folder(homework, 'dist') / homework.starter_name)}`",
}


def rewritten(text: str, homework: Homework, name: str = "the document") -> str:
    """`text` with everything between the marks written anew.

    Raises:
        HomeworkError: an opening mark is without its closing one.
    """
    for mark, table in TABLES.items():
        if text.count(f"<!-- {mark} -->") != text.count(f"<!-- /{mark} -->"):
            raise HomeworkError(f"{name}: the mark <!-- {mark} --> is not closed with <!-- /{mark} -->")
        content = table(homework)
        content = f"\n{content}\n" if "\n" in content else content
        marked = re.compile(f"(<!-- {mark} -->).*?(<!-- /{mark} -->)", re.DOTALL)
        text = marked.sub(lambda match, content=content: match[1] + content + match[2], text)  # type: ignore[misc]
    return text


def stale_documents(homework: Homework) -> list[Path]:
    """The documents that do not say what is declared."""
    stale = [path for path in documents(homework) if path.read_text(encoding="utf-8") != _current(path, homework)]
    requirements_file = ROOT / "requirements.txt"
    if requirements_file.read_text(encoding="utf-8") != requirements.requirements_text():
        stale.append(requirements_file)
    return stale


def _current(path: Path, homework: Homework) -> str:
    return rewritten(path.read_text(encoding="utf-8"), homework, shown(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homework", default="hw1", help="(%(default)s)")
    homework = load_homework(parser.parse_args().homework)
    check_complete(homework)
    for path in documents(homework):
        write_file(path, _current(path, homework).encode("utf-8"))
        print(f"wrote the tables of {shown(path)}")
    write_file(ROOT / "requirements.txt", requirements.requirements_text().encode("utf-8"))
    print("wrote requirements.txt")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
