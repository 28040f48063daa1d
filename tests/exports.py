"""Exports as Gradescope writes them, of submissions that hold next to nothing."""

import zipfile
from pathlib import Path

from staff.grade_class.metadata import FILE

ANSWER = b"def log_likelihood(model, text): ...\n"
SOURCE = "questions/likelihood.py"


def entry(folder: str, *names: str, at: str = "2023-10-12 04:12:32.123456000 Z", earlier: tuple[int, ...] = ()) -> str:
    """An entry as Gradescope writes it."""
    students = "".join(f"  - :name: {name}\n    :sid: '{name}-1'\n    :email: {name}@x.edu\n" for name in names)
    history = "".join(f"  - :id: {id}\n    :results:\n      a: |-\n        :id: 7\n    :score: 1.0\n" for id in earlier)
    return (
        f"{folder}:\n  :submitters:\n{students}  :created_at: {at}\n  :score: 10.5\n  :status: processed\n"
        f"  :results:\n    tests:\n    - name: a\n      output: |-\n        submission_9:\n          :submitters:\n"
        f"  :history:{' []' if not history else ''}\n{history}"
    )


def zipped(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def export(*folders: str, top: str = "assignment_5_export/") -> dict[str, bytes | str]:
    """An export of these submissions, each by a student of its own."""
    described = "---\n" + "".join(entry(folder, f"jane{i}") for i, folder in enumerate(folders))
    return {f"{top}{FILE}": described} | {f"{top}{folder}/{SOURCE}": ANSWER for folder in folders}
