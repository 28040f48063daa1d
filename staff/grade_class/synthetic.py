"""Make an export as Gradescope does, of a class that never was: for tests and measurements.

    python -m staff.grade_class.synthetic --out export.zip --submissions 300 --hostile 10

The same arguments always make the same file. There are right, wrong and hostile answers from the audit's cases,
disguised copies, groups, students who handed in twice, names in many scripts, students without an id, an empty
submission, and one that is a broken zip. Where there are more submissions than cases, the further ones put together the
answers of several.
"""

import argparse
import contextlib
import random
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from src.errors import run_command
from src.files import ROOT, write_file
from staff.audit.case import Case, CaseError, load_all
from staff.audit.subject import DEFAULT_HOMEWORK, Subject, load_subject
from staff.grade_class.blocks import starter
from staff.grade_class.disguise import WAYS, disguised
from staff.grade_class.metadata import FILE
from staff.grade_class.tokens import names_in

NAMES = (
    "Jane Doe", "José Ñandú", "王小明", "محمد الأمين", "علی\u200cرضا", "Ђорђе Петровић", "Ólafur Þórsson", "김하늘",
    "山田 太郎", "Δήμητρα", "अनन्या", "O'Neil, Pat", "=1+1", "Null", "- x: [a]", "Zoë 🙂 Fischer",
)  # fmt: skip
_TOP, _FIRST_ID = "assignment_1_export", 150_000_000
_WHEN, _DATE = datetime(2023, 10, 12, 8, tzinfo=UTC), (2023, 10, 12, 8, 0, 0)
_OF_THE_AUDIT = ("{outside}", "{port}", "{results}")  # placeholders of attacks that need the audit around them
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
Files = dict[str, bytes]  # path in the submission → content


@dataclass(frozen=True)
class Made:
    """One submission of the class."""

    case: str  # kind/name
    files: Files
    copied: int | None = None  # the number of the submission that this is a copy of
    ways: tuple[str, ...] = ()  # how the copy was disguised
    is_older: bool = False  # the student of the submission before it made it, a day earlier


def make_class(subject: Subject, submissions: int, hostile: int, seed: int = 0, copies: int = 6) -> list[Made]:
    """The submissions of a class, `hostile` of them attacks, and `copies` of them copies of others."""
    rng, cases = random.Random(seed), load_all(subject)
    attacks = [case for case in cases if case.kind == "hostile" and not case.root and _is_contained(case)]
    chosen = rng.sample(attacks, min(hostile, len(attacks)))
    own = [case for case in cases if case.kind == "right" and _is_own(case)]
    originals = rng.sample(own, min(copies, len(own)))
    broken = [Made("empty", {}), Made("broken zip", {subject.homework.zip_name: b"PK\3\4 and nothing more"})]
    chosen += originals
    honest = _honest([case for case in cases if case.kind != "hostile"], originals, rng)
    while len(chosen) < submissions - len(originals) - len(broken):
        chosen.append(next(honest))
    made = [Made(f"{case.kind}/{case.name}", _files(case)) for case in chosen] + broken
    rng.shuffle(made)
    names = [entry.case for entry in made]
    kept = {f"right/{original.name}" for original in originals}
    made = [
        replace(entry, is_older=number % 25 == 24 and entry.case not in kept and not entry.case.startswith("hostile"))
        for number, entry in enumerate(made)
    ]
    for number, original in enumerate(originals):
        ways = WAYS[number % len(WAYS)]
        copy = _disguised(original, ways, rng)
        made.append(Made(f"copy/{original.name}", _files(copy), names.index(f"right/{original.name}"), ways))
    return made


def export(made: list[Made], seed: int = 0) -> bytes:
    """Gradescope's zip of these submissions."""
    rng, buffer = random.Random(seed), BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        described = "---\n" + "".join(_entry(number, entry.is_older, rng) for number, entry in enumerate(made))
        for name, content in {FILE: described.encode(), **_paths(made)}.items():
            info = zipfile.ZipInfo(f"{_TOP}/{name}", _DATE)
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def folder_of(number: int) -> str:
    """The folder of the submission with this number in the list."""
    return f"submission_{_FIRST_ID + number}"


def _paths(made: list[Made]) -> Files:
    paths: Files = {}
    for number, entry in enumerate(made):
        paths |= {f"{folder_of(number)}/{name}": content for name, content in entry.files.items()}
        if not entry.files:
            paths[f"{folder_of(number)}/"] = b""
    return paths


# --- answers ---


def _is_contained(case: Case) -> bool:
    text = str((case.blocks, case.replace, case.files))
    return not case.build and not any(placeholder in text for placeholder in _OF_THE_AUDIT)


def _is_own(case: Case) -> bool:
    """Whether all blocks of the case are its own, and in the files of the starter."""
    is_whole = set(case.blocks) == set(case.subject.homework.numbers) and not case.files
    return is_whole and not any("{right}" in block for block in case.blocks.values())


def _honest(cases: list[Case], taken: list[Case], rng: random.Random) -> Iterator[Case]:
    """The cases that are not `taken`, in a random order; then the wrong ones again, with right blocks of others.

    No case that is taken lends its blocks, so that its copy is the only one.
    """
    names = {case.name for case in taken}
    rest = [case for case in cases if case.name not in names]
    blocks, wrong = _portable_blocks(rest), [case for case in rest if case.kind == "wrong"]
    yield from rng.sample(rest, len(rest))
    while True:
        for case in rng.sample(wrong, len(wrong)):
            mixed = replace(case, blocks={part: rng.choice(blocks[part]) for part in _untouched(case)} | case.blocks)
            with contextlib.suppress(CaseError):  # it replaces something in a block that is another one now
                if mixed.blocks != case.blocks and mixed.texts():
                    yield mixed


def _portable_blocks(cases: list[Case]) -> dict[str, list[str]]:
    """Part → right blocks that need nothing outside of them."""
    blocks: dict[str, list[str]] = {}
    for case in cases:
        for part in set(case.blocks) if case.kind == "right" and not case.build else ():
            if case.subject.homework.part(part).file not in (*case.replace, *_own_files(case)):
                blocks.setdefault(part, []).append(case.blocks[part])
    return blocks


def _untouched(case: Case) -> list[str]:
    """The parts in whose files the case changes nothing but blocks, or which have no block of its own."""
    homework = case.subject.homework
    changed = {*case.replace, *_own_files(case)}
    return [number for number in homework.numbers if homework.part(number).file not in changed and not case.build]


def _own_files(case: Case) -> list[str]:
    return [Path(name).name for name in case.files]


def _disguised(case: Case, ways: tuple[str, ...], rng: random.Random) -> Case:
    blocks: dict[str, str] = {}
    for part, code in case.blocks.items():
        given = names_in(starter(case.subject.homework, part)) | set(re.findall(r"\w+", str(case.replace)))
        blocks[part] = disguised(code, ways, given, rng)
    return replace(case, blocks=blocks)


def _files(case: Case) -> Files:
    """What the case hands in, as make_submission.sh packs it: without a folder around."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "submission.zip"
        case.write(path, {"root": ROOT, "results": "", "outside": "", "port": 9})
        with zipfile.ZipFile(path) as archive:
            top = f"{case.subject.homework.slug}/"
            return {name.removeprefix(top): archive.read(name) for name in archive.namelist()}


# --- the metadata ---


def _entry(number: int, is_older: bool, rng: random.Random) -> str:
    """The entry of a submission, in Gradescope's form; every 20th is of a group."""
    first = number - is_older
    others = number % 3 if number % 20 == 7 else 0
    students = [_student(first), *(_student(100_000 + 3 * number + i) for i in range(others))]
    moment = _WHEN + timedelta(minutes=first * 37 % 14_000) - timedelta(days=is_older)
    score = rng.randrange(0, 61) / 2
    value: dict[str, Any] = {
        ":submitters": students,
        ":created_at": f"{moment:%Y-%m-%d %H:%M:%S}.{number % 1000:03}456000 Z",
        ":score": score,
        ":status": "processed",
        ":results": {"tests": [{"name": "a test", "score": score, "output": "input: x\nexpected: y\ngot: z\n"}]},
        ":history": [],
    }
    return yaml.dump({folder_of(number): value}, Dumper=_DUMPER, allow_unicode=True, sort_keys=False)


def _student(number: int) -> dict[str, str]:
    name = NAMES[number % len(NAMES)] + (f" {number}" if number >= len(NAMES) else "")
    sid = {} if number % 15 == 3 else {":sid": f"{number:08}"}
    return {":name": name, **sid, ":email": f"student{number}@example.edu"}


def main() -> int:
    """Write the export that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the zip to write")
    parser.add_argument("--submissions", type=int, default=300, help="how many (%(default)s)")
    parser.add_argument("--hostile", type=int, default=0, help="how many of them are attacks (%(default)s)")
    parser.add_argument("--copies", type=int, default=6, help="how many of them are disguised copies (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--homework", default=DEFAULT_HOMEWORK, help="(%(default)s)")
    args = parser.parse_args()
    made = make_class(load_subject(args.homework), args.submissions, args.hostile, args.seed, args.copies)
    write_file(args.out, export(made, args.seed))
    for number, entry in enumerate(made):
        if entry.copied is not None:
            print(f"{folder_of(number)} is a copy of {folder_of(entry.copied)}, {' and '.join(entry.ways)}")
    print(f"wrote {args.out}: {len(made)} submissions")
    return 0


if __name__ == "__main__":
    run_command(main)
