"""A case of the audit: a YAML file that changes the reference answers, and declares what must come of it.

    about: The mean of the tokens' log-probabilities instead of their sum.
    blocks:
      6.4: |
        logits, _ = model(text)
        ...
    points: {6.4: 0}        # of the parts that don't get all of theirs
    hint: mean              # the name in diagnosis.HINTS, or a list of names

The keys, of which only `about` is needed:

blocks    part → the code of its block; a line `{right}` stands for the reference answer
replace   file → [[old, new], …], made in the reference answers
files     path in the zip, questions/sample.py for one → its text; `{right}` stands for the reference file of that name
build     Python code that changes `files` (path in the zip → text or bytes), for which there is `submit`, or writes the
          zip at `path` by itself, given `top` (its folder) and `zipfile`
points    part → points, or [at least, at most]
hint      the hints that its tests must give, all of them, and no other
says      what some test's output, or the output of the whole, must say
mistake   what is wrong: the "function" (the default; loses half of its part's points or more), the "type" alone of what
          it returns (a quarter at most), some cases ("partial"), or hidden ones ("fool": right on the visible tests)
seconds   how long the grading may take (120)
fast      true: belongs to the part of the audit that `make test` runs
root      true: only a grader that is root protects against it; an ordinary user's grader is not tried

In code, `{root}` is the repository, `{results}` the file of the results, `{outside}` a folder where everybody may
write, `{port}` a port on 127.0.0.1 at which the audit listens. Code that gets hold of what isn't meant for it says
TAKEN.
"""

import hashlib
import json
import re
import textwrap
import zipfile
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from src.artifacts import FILES, SOURCES
from src.config import ROOT
from src.errors import UserError
from src.grading.diagnosis import HINTS
from staff.make_stubs import filled

FULL = {"6.3": 8.0, "6.4": 8.0, "6.5": 7.0, "6.6": 7.0, "6.7": 5.0}
KINDS = ("right", "wrong", "hostile")
CASES = Path(__file__).parent / "cases"
# What share of its part's points a wrong answer must lose, at least and at most.
LOSSES = {"function": (0.5, 1), "type": (0.01, 0.25), "partial": (0.01, 1), "fool": (0.25, 1)}
TOP = "cs236.hw1.2023"


class CaseError(UserError):
    """A case that can't be what it says."""


@dataclass(frozen=True)
class Case:
    """What one file of `cases/` says; see above."""

    kind: str
    name: str
    about: str
    blocks: dict[str, str] = field(default_factory=dict)
    replace: dict[str, list] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    build: str = ""
    points: dict[str, list[float]] = field(default_factory=dict)
    hint: list[str] = field(default_factory=list)
    says: str = ""
    mistake: str = "function"
    seconds: float = 120
    fast: bool = False
    root: bool = False

    def expected(self) -> dict[str, list[float]]:
        """Part → the points that it must get, at least and at most."""
        return {part: [points, points] for part, points in FULL.items()} | self.points

    def parts(self) -> tuple[str, ...]:
        """The parts to grade: those whose answers it can change; none where it can change all.

        Wrong answers: the parts that run a file with a block or replacement of theirs. Hostile ones: the parts that
        they meddle with, and another as a witness that grading goes on.
        """
        meddled = {*self.points, *self.blocks}
        if self.kind == "right" or self.files or self.build or not meddled < set(FULL):
            return ()
        if self.kind == "hostile":
            return tuple(sorted(meddled | {"6.4" if "6.6" in meddled else "6.6"}))
        changed = {file for part in meddled for file in SOURCES[part][:1]} | set(self.replace)
        return tuple(part for part, files in SOURCES.items() if changed & set(files))

    def write(self, path: Path, placeholders: dict[str, Any]) -> None:
        """Write the submission, a zip, to `path`.

        Raises:
            CaseError: what is to be replaced isn't there.
        """
        texts = self.texts()
        for placeholder, value in placeholders.items():
            texts = {name: text.replace("{" + placeholder + "}", str(value)) for name, text in texts.items()}
        if self.build:
            code = compile(self.build, f"{self.kind}/{self.name}.yml", "exec")
            given = {"path": path, "files": texts, "top": TOP, "zipfile": zipfile, "submit": partial(_submit, texts)}
            exec(code, given | placeholders)
            if path.exists():
                return
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in texts.items():
                archive.writestr(f"{TOP}/{name}", text)

    def texts(self) -> dict[str, str]:
        """Path in the zip → what the case puts there, with its placeholders."""
        texts = self._questions()
        for name, text in self.files.items():
            texts[name] = text.replace("{right}", texts.get(name, ""))
        return texts

    def _questions(self) -> dict[str, str]:
        """The reference answers with the blocks and the replacements of this case."""
        texts, unused = {}, set(self.blocks)
        for path in sorted((ROOT / "staff" / "solution").glob("*.py")):

            def answer(part: str, right: str) -> str:
                unused.discard(part)
                own = self.blocks.get(part, "{right}")
                return re.sub(r"^( *)\{right\}$", lambda m: textwrap.indent(right, m[1]), own, flags=re.MULTILINE)

            text = filled(path.read_text(encoding="utf-8"), answer)
            for old, new in self.replace.get(path.name, []):
                if old not in text:
                    raise CaseError(f"{self.kind}/{self.name}.yml: {old!r} isn't in {path.name}")
                text = text.replace(old, new)
            texts[f"questions/{path.name}"] = text
        unused |= {name for name in self.replace if f"questions/{name}" not in texts}
        if unused:
            raise CaseError(f"{self.kind}/{self.name}.yml: there is no block or file {min(unused)}")
        return texts


def _submit(files: dict[str, Any], made: dict[str, bytes]) -> None:
    """Put the artifacts `made` among `files`, and a record that states their right hashes, so that they are opened."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    entry = {"questions": "questions", "code": {}, "files": hashes}
    record = {"made_with": {"model": "gpt2-mini"}, "parts": {"6.4": entry, "6.5": entry}}
    files |= {f"submit/{name}": content for name, content in made.items()} | {"submit/run.json": json.dumps(record)}


def load(path: Path) -> Case:
    """The case in the file `path`.

    Raises:
        CaseError: it declares something that can't be.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise CaseError(f"{where}: is no YAML ({' '.join(str(error).split())})") from None
    known = {f.name for f in fields(Case)} - {"kind", "name"}
    if not isinstance(said, dict) or "about" not in said or set(said) - known:
        raise CaseError(f"{where}: has unknown keys, or no `about`; known are {', '.join(sorted(known))}")
    for key in ("blocks", "points"):
        said[key] = {str(part): value for part, value in said.get(key, {}).items()}
        if unknown := set(said[key]) - set(FILES):
            raise CaseError(f"{where}: {key} names the part {min(unknown)}, which isn't one of {', '.join(FILES)}")
    said["points"] = {part: p if isinstance(p, list) else [p, p] for part, p in said["points"].items()}
    hint = said.get("hint", [])
    said["hint"] = [hint] if isinstance(hint, str) else hint
    if unknown := set(said["hint"]) - set(HINTS):
        raise CaseError(f"{where}: there is no hint {min(unknown)!r} in diagnosis.HINTS")
    case = Case(kind=path.parent.name, name=path.stem, **said)
    if case.kind == "wrong":
        _check_loss(case, where)
    return case


def _check_loss(case: Case, where: str) -> None:
    """See that a wrong answer is declared to lose in one part, and enough."""
    if len(case.points) != 1:
        raise CaseError(f"{where}: a wrong answer loses points in exactly one part, not in {len(case.points)}")
    ((part, points),) = case.points.items()
    least, most = LOSSES[case.mistake]
    lost = [1 - p / FULL[part] for p in points]
    if not least <= min(lost) <= max(lost) <= most:
        raise CaseError(
            f"{where}: loses {min(lost):.0%} of {part}; with `mistake: {case.mistake}`, {least:.0%} to {most:.0%}"
        )


def load_all() -> list[Case]:
    """All cases, by kind and name."""
    return [load(path) for kind in KINDS for path in sorted((CASES / kind).glob("*.yml"))]
