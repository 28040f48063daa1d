"""Markdown to PDF, by pandoc and Typst, and to Markdown for GitHub. The same input gives the same bytes everywhere."""

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from src.files import ROOT
from staff.handout.source import HandoutError, Place, Source, line_of

TEMPLATE = Path(__file__).with_name("template.typ")
GROUP = "handout"


def check_tools() -> None:
    """Check that the tools are installed in the versions that give the committed bytes.

    Raises:
        HandoutError: one is not.
    """
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    for pin in groups[GROUP]:
        name, _, wanted = pin.partition("==")
        try:
            found = version(name)
        except PackageNotFoundError:
            raise HandoutError(f"{name} is not installed; run: make handout (or pip install {pin})") from None
        if found != wanted:
            raise HandoutError(f"{name} is {found}, but pyproject.toml asks for {wanted}; run: pip install {pin}")


def to_github(markdown: str, source: Source) -> str:
    """Markdown that GitHub shows: its own marks around formulas, which no other mark of Markdown disturbs."""
    text = pandoc(markdown, "gfm", source, "markdown-implicit_figures")
    return re.sub(r"^( *)``` math$", r"\1```math", text, flags=re.M)


def to_pdf(markdown: str, source: Source, pictures: Path, note: str = "") -> bytes:
    """A PDF with the pictures of the folder `pictures`; `note` stands at the top of each page."""
    import typst

    body = pandoc(markdown, "typst", source)
    values = {"title": source.keys["title"], "subtitle": source.keys["subtitle"], "note": note}
    heading = f"#show: handout.with({', '.join(f'{name}: {_quoted(value)}' for name, value in values.items())})"
    document = f"{TEMPLATE.read_text(encoding='utf-8')}\n{heading}\n\n{body}"
    try:
        compiler = typst.Compiler(document.encode(), root=pictures, ignore_system_fonts=True)
        pdf, warnings = compiler.compile_with_warnings(format="pdf", timestamp=0)
    except typst.TypstError as error:
        raise HandoutError(
            f"{TEMPLATE.parent.name}: Typst refuses the text: {_first_lines(error.diagnostic)}"
        ) from None
    if warnings:
        raise HandoutError(f"{TEMPLATE.parent.name}: Typst warns: {_first_lines(warnings[0].diagnostic)}")
    assert isinstance(pdf, bytes)
    return pdf


def pandoc(markdown: str, to: str, source: Source, from_: str = "markdown") -> str:
    """`markdown` in another format.

    Raises:
        HandoutError: a formula cannot be converted.
    """
    import pypandoc

    command = [pypandoc.get_pandoc_path(), f"--from={from_}", f"--to={to}", "--wrap=preserve", "--fail-if-warnings"]
    process = subprocess.run(command, input=markdown, capture_output=True, encoding="utf-8", check=False)
    if process.returncode or process.stderr:
        raise _explained(process.stderr, source)
    return process.stdout


def _explained(warning: str, source: Source) -> HandoutError:
    """What pandoc says, with the line of the source that it is about, if it quotes a formula."""
    formula = re.search(r"Could not convert TeX math (.*?)(?:, rendering as TeX|$)", warning, re.S)
    quoted = formula[1].strip() if formula else ""
    for text in source.texts() if quoted else ():
        index = _without_spaces(text.text).find(_without_spaces(quoted))
        if index >= 0:
            place = Place(text.place.path, text.place.line + line_of(index, text.text, _without_spaces) - 1)
            return place.error(f"the formula {quoted[:60]} cannot be converted; write it in plain LaTeX")
    return HandoutError(f"pandoc refuses the text: {' '.join(warning.split())[:300]}")


def _quoted(text: str) -> str:
    """A string in Typst."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def _first_lines(diagnostic: str) -> str:
    return " ".join(diagnostic.split())[:300]
