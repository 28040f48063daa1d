"""Make the handout of a homework: its PDF and its Markdown in docs/, the templates for answers, and the key for staff.

    python -m staff.handout [--homework hw1]

Everything is made from the Markdown in staff/NAME/written/; `source.py` explains its marks.
"""

import argparse
from pathlib import Path

from src.errors import run_command
from src.files import ROOT, shown, write_file
from src.grading.homework import Homework
from staff.declaration import load_homework
from staff.handout.compose import Handout
from staff.handout.passages import KEY_NOTE
from staff.handout.points import scores
from staff.handout.render import check_tools, to_github, to_pdf
from staff.handout.source import read_source, template_files, written_folder
from staff.handout.templates import TEMPLATES


def handout_of(homework: Homework) -> Handout:
    """The handout of a homework.

    Raises:
        HandoutError: its source cannot be understood, or its points do not add up.
    """
    return Handout(homework, scores(read_source(written_folder(homework)), homework))


def made(handout: Handout) -> dict[Path, bytes]:
    """The content of every file that is made from a handout.

    Raises:
        HandoutError: a tool is missing, or refuses the text.
    """
    check_tools()
    name, source, docs = handout.homework.name, handout.scores.source, ROOT / "docs"
    files = {
        docs / f"{name}.pdf": to_pdf(handout.for_print(), source, docs),
        docs / f"{name}.md": to_github(handout.for_github(), source).encode(),
        written_folder(handout.homework) / "key.pdf": to_pdf(handout.key(), source, docs, KEY_NOTE),
    }
    templates = map(Path, template_files(handout.homework))
    return files | {ROOT / path: TEMPLATES[path.suffix](handout).encode() for path in templates}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m staff.handout", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--homework", default="hw1", help="(%(default)s)")
    homework = load_homework(parser.parse_args().homework)
    for path, content in made(handout_of(homework)).items():
        write_file(path, content)
        print(f"wrote {shown(path)}")
    return 0


if __name__ == "__main__":
    run_command(main)
