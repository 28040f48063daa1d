"""The handout: made from one source, complete, without the answers, and the same bytes each time."""

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError

import pytest

from src.files import ROOT
from src.grading.results import points_of
from src.hw1.parts import HOMEWORK
from staff import release
from staff.declaration import load_homework
from staff.handout import render
from staff.handout.__main__ import handout_of, made
from staff.handout.passages import KEY_NOTE, secret_passages
from staff.handout.points import scores
from staff.handout.source import HandoutError, handout_files, read_source, rubric_points, written_folder
from tests.answers import FULL

HOMEWORKS = {name: load_homework(name) for name in ("hw1", "hw10")}
SOURCES = {name: read_source(written_folder(homework)) for name, homework in HOMEWORKS.items()}
KEYS = {name: f"staff/{name}/written/key.pdf" for name in HOMEWORKS}
PDFS = [path for name in HOMEWORKS for path in (f"docs/{name}.pdf", KEYS[name])]
GITHUB = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in HOMEWORKS}
MADE = {
    name: [*(path for path in handout_files(homework) if not path.endswith(".svg")), KEYS[name]]
    for name, homework in HOMEWORKS.items()
}
WRITTEN, SOURCE = written_folder(HOMEWORK), SOURCES["hw1"]
MATH = re.compile(r"^ *```math\n(.*?)^ *```$|\$`([^`]+)`\$", re.M | re.S)
WRITTEN_LEAVES = {name: [leaf for leaf in source.leaves if leaf.part is None] for name, source in SOURCES.items()}
for_each = pytest.mark.parametrize("name", HOMEWORKS)


@functools.cache
def remake(name: str) -> dict[str, bytes]:
    """Path → content, of all that `make handout` writes for a homework."""
    return {path.relative_to(ROOT).as_posix(): content for path, content in made(handout_of(HOMEWORKS[name])).items()}


@pytest.fixture(scope="session")
def remade() -> Callable[[str], dict[str, bytes]]:
    try:
        render.check_tools()
    except HandoutError as error:
        pytest.skip(str(error))
    return remake


@functools.cache
def read(name: str) -> tuple[str, list[tuple[float, str]]]:
    """The text of a PDF, and how far from the left each piece of it begins, in points."""
    pypdf = pytest.importorskip("pypdf")

    def look(text, page_matrix, matrix, *others):
        if text.strip():
            places.append((matrix[4] * page_matrix[0] + page_matrix[4], text))

    places: list[tuple[float, str]] = []
    pages = [page.extract_text(visitor_text=look) for page in pypdf.PdfReader(ROOT / name).pages]
    return "\n".join(pages), places


# --- what is made ---


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in MADE.items() for path in paths])
def test_a_committed_file_is_what_make_handout_writes(remade, name, path):
    assert (ROOT / path).read_bytes() == remade(name)[path], f"{path} is stale; run: make handout HOMEWORK={name}"


@for_each
def test_everything_that_is_made_is_committed(remade, name):
    assert sorted(remade(name)) == sorted(MADE[name])


@for_each
def test_making_it_again_gives_the_same_bytes(remade, name):
    handout = handout_of(HOMEWORKS[name])
    again = render.to_pdf(handout.key(), handout.scores.source, ROOT / "docs", KEY_NOTE)
    assert again == remade(name)[KEYS[name]]


@pytest.mark.parametrize("name", PDFS)
def test_every_formula_is_typeset(name):
    text, _ = read(name)
    assert len(text) > 10_000
    assert [line for line in text.splitlines() if re.search(r"[\\�$]|\{\{|mathbb|\bfrac\b|parallel", line)] == []


@pytest.mark.parametrize("name", PDFS)
def test_nothing_stands_outside_of_the_margins(name):
    _, places = read(name)
    assert len(places) > 100
    assert [place for place in places if not 71 <= place[0] <= 541] == []  # an inch of 612 points


@pytest.mark.parametrize("name", PDFS)
def test_a_pdf_carries_no_date_and_only_embedded_fonts(name):
    pdf = pytest.importorskip("pypdf").PdfReader(ROOT / name)
    assert not {"/CreationDate", "/ModDate"} & set(pdf.metadata)
    for page in pdf.pages:
        for font in page["/Resources"]["/Font"].values():
            (inner,) = font.get_object()["/DescendantFonts"]
            assert {"/FontFile2", "/FontFile3"} & set(inner.get_object()["/FontDescriptor"].get_object())


@for_each
def test_github_gets_formulas_that_it_shows(name):
    formulas = [display or inline for display, inline in MATH.findall(GITHUB[name])]
    assert len(formulas) > 100
    assert [f for f in formulas if re.search(r"\\(operatorname|newcommand|def|label|require|boldsymbol)\b", f)] == []
    assert all(f.count("{") == f.count("}") for f in formulas)
    outside = MATH.sub("", GITHUB[name])
    assert re.findall(r"\$|\\[a-z]+", outside) == []  # no formula in marks that GitHub reads otherwise


@for_each
def test_github_finds_the_figures(name):
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", GITHUB[name])
    assert [f"docs/{figure}" for figure in sorted(figures)] == [
        path for path in handout_files(HOMEWORKS[name]) if path.endswith(".svg")
    ]


@for_each
@pytest.mark.parametrize(("ending", "heading"), [("md", "### {}"), ("tex", "\\subsection*{{{}"), ("typ", "== {}")])
def test_a_template_has_a_place_for_every_written_answer(name, ending, heading):
    text = (ROOT / "docs" / "template" / f"{name}-answers.{ending}").read_text(encoding="utf-8")
    assert text.count("Your answer.") == len(WRITTEN_LEAVES[name])
    for leaf in WRITTEN_LEAVES[name]:
        if leaf.number != leaf.problem:
            assert heading.format(f"{leaf.number} {leaf.title}") in text


@for_each
def test_the_templates_can_be_typeset(remade, name):
    import typst

    template, source = f"docs/template/{name}-answers", SOURCES[name]
    assert typst.compile(remade(name)[f"{template}.typ"], ignore_system_fonts=True).startswith(b"%PDF")
    for ending, form in (("tex", "latex"), ("md", "markdown")):
        text = remade(name)[f"{template}.{ending}"].decode()
        assert f"Problem 1. {source.questions[0].title}" in render.pandoc(text, "plain", source, form)


@for_each
def test_every_value_at_the_beginning_is_used(name):
    text = "".join(path.read_text(encoding="utf-8") for path in written_folder(HOMEWORKS[name]).glob("*.md"))
    values = set(SOURCES[name].keys) - {"title", "subtitle", "total", "bonus"}
    assert {value for value in values if f"{{{{{value}}}}}" not in text} == set()


@for_each
def test_what_the_handout_names_is_declared(name):
    homework, text = HOMEWORKS[name], GITHUB[name]
    files = {artifact.name for part in homework.parts for artifact in part.artifacts}
    assert set(re.findall(r"`([\w-]+\.(?:png|csv))`", text)) <= files
    blocks = set(re.findall(r"`(\w+)`\s+in\s+`(?:questions/)?(\w+\.py)`", text))
    assert blocks
    assert blocks <= {(part.function, part.file) for part in homework.parts}
    assert set(re.findall(r"grader\.py (\d[\w.]*)`", text)) <= set(homework.all_numbers)


# --- points ---


def test_the_points_add_up_to_100_and_10_bonus_points():
    result = scores(SOURCE, HOMEWORK)
    written = {leaf.number: leaf.points for leaf in WRITTEN_LEAVES["hw1"]}
    counted = sum(points for number, points in written.items() if result.kinds[number] == "regular")
    bonus = sum(points for number, points in written.items() if result.kinds[number] == "bonus")
    programmed = {leaf.part: FULL.get(leaf.part, 0) for leaf in SOURCE.leaves if leaf.part}
    extra = sum(points for part, points in programmed.items() if HOMEWORK.part(part).bonus)
    assert (counted, bonus) == (70, 5)
    assert counted + sum(programmed.values()) - extra == 100 == result.total("regular")
    assert bonus + extra == 10 == result.total("bonus")
    assert re.search(
        r"\| \*\*100 points, without bonus and practice\*\* +\| +\*\*70\*\* \| +\*\*30\*\* \|", GITHUB["hw1"]
    )


def test_homework_10_has_100_points_half_of_them_on_paper():
    result, declared = scores(SOURCES["hw10"], HOMEWORKS["hw10"]), points_of(HOMEWORKS["hw10"])
    assert result.total("regular") == 100
    assert result.total("regular", programmed=True) == sum(each.total for each in declared.values()) == 50
    for number in "12345":
        assert sum(each.total for part, each in declared.items() if part.startswith(number)) == 10
    assert re.search(r"\| \*\*100 points\*\* +\| +\*\*50\*\* \| +\*\*50\*\* \|", GITHUB["hw10"])


@pytest.mark.parametrize(
    "leaf", [pytest.param(leaf, id=f"{name}-{leaf.number}") for name in HOMEWORKS for leaf in WRITTEN_LEAVES[name]]
)
def test_a_written_question_has_answer_rubric_and_errors(leaf):
    blocks = {text.block: text for text in leaf.texts if text.block}
    assert {"answer", "rubric", "errors"} <= set(blocks)
    assert all(len(text.text.split()) > 5 for text in blocks.values())
    assert rubric_points(blocks["rubric"]) == leaf.points


# --- the answers stay with the staff ---


@for_each
def test_no_answer_reaches_what_students_get(name):
    secrets = secret_passages(SOURCES[name])
    assert min(len(secrets.words), len(secrets.formulas)) >= 4
    for path in handout_files(HOMEWORKS[name]):
        text = read(path)[0] if path.endswith(".pdf") else (ROOT / path).read_text(encoding="utf-8")
        assert secrets.found_in(text) is None, path
    assert secrets.found_in(read(KEYS[name])[0])  # so the search would have found them


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("docs/hw1.md", b"one\nis Gaussian, *whatever*\nthe networks are\n", r"docs/hw1.md:2: a passage of the handout's key"),
        ("a.tex", rb"\[ b_y=\log\pi_y - \frac{\lVert \mu_y\rVert^2}{2\sigma^2} \]", "a.tex:1: a passage of the handout's key"),
        ("src/a.py", b"x = 1\nRIGHT = 7482624\n", "src/a.py:2: a passage of the handout's key is in the starter: 7482624"),
        ("src/a.py", b'"""It is 14,974,991."""\n', "src/a.py:1: a passage"),
        ("docs/hw1.pdf", (ROOT / KEYS["hw1"]).read_bytes(), "docs/hw1.pdf: the handout's key is in the starter"),
    ],
)  # fmt: skip
def test_a_passage_of_the_key_stops_the_release(tmp_path, name, content, says):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(release.ReleaseError, match=says):
        release.check_leaks(HOMEWORK, tmp_path)


@for_each
def test_the_starter_holds_the_handout_and_not_its_source(name):
    names = release.starter_files(HOMEWORKS[name])
    assert {f"docs/{name}.pdf", f"docs/{name}.md", f"docs/template/{name}-answers.tex"} <= set(names)
    assert ("docs/hw1-architecture.svg" in names) == (name == "hw1")
    assert not [each for each in names if each.startswith("staff")]


# --- what is wrong is named ---

MISTAKES = [
    ("1-*.md", ":::\n\n::: {.rubric}", "::: {.rubric}", r"1-.*\.md:\d+: the block \.answer is not closed before line \d+; end it"),
    ("8-*.md", "## How", "::: {.answer}\n## How", r"8-.*\.md:1: the block \.answer is not closed; end it with a line `:::`"),
    ("1-*.md", "::: {.answer}", "::: {.solution}", r"1-.*\.md:\d+: unknown block '\{\.solution\}'; known are `::: \{\.answer\}`"),
    ("8-*.md", "## How", ":::\n## How", r"8-.*\.md:1: closes a block, but none is open"),
    ("1-*.md", "- **3** The divergence", "- **4** The divergence", r"1-.*\.md:\d+: the rubric of 1 adds up to 11 points, not to 10"),
    ("3-*.md", "number=3.1 points=3", "number=3.1 points=2", r"3-.*\.md:\d+: the rubric of 3.1 adds up to 3 points, not to 2"),
    ("3-*.md", "number=3 points=15", "number=3 points=14", r"3-.*\.md:1: problem 3 has 14 points, but its questions have 15"),
    ("0-*.md", "total: 100", "total: 90", r"0-.*\.md:1: total: 90, but the questions' points add up to 100 \(10 \+ 10 \+ 3"),
    ("0-*.md", "bonus: 10\n", "", r"0-.*\.md:1: the key bonus is missing"),
    ("6-*.md", " points=4", "", r"6-.*\.md:\d+: 6.1 has neither points=… nor part=…"),
    ("6-*.md", "part=6.4", "part=6.9", r"6-.*\.md:\d+: part=6.9 is not declared in src.hw1.parts"),
    ("6-*.md", "part=6.4", "part=6.3", r"part 6.4 has 8 points, but stands nowhere in the handout; add a heading with {number=6.4"),
    ("6-*.md", "part=6.4", "part=6.4 points=8", r"6-.*\.md:\d+: 6.4 has points=…, but those of a part are at its tests"),
    ("5-*.md", "number=5.2", "number=5.1", r"5-.*\.md:\d+: the number 5.1 is taken by line \d+"),
    ("5-*.md", "number=5.2", "numero=5.2", r"5-.*\.md:\d+: unknown attribute 'numero=5.2'; known are number=…"),
    ("5-*.md", "number=5 points=10", "number=5 kind=extra", r"5-.*\.md:1: kind=extra is unknown; known are regular, bonus, practice"),
    ("2-*.md", "::: {.errors}", "::: {.staff}", r"2-.*\.md:1: 2 has no block `::: \{\.errors\}`; add one below it"),
]  # fmt: skip


@pytest.fixture
def written(tmp_path):
    shutil.copytree(WRITTEN, tmp_path / "written")
    return tmp_path / "written"


def changed(written, pattern: str, old: str, new: str) -> None:
    (path,) = written.glob(pattern)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(("pattern", "old", "new", "says"), MISTAKES)
def test_a_mistake_in_the_source_is_named_in_one_line(written, pattern, old, new, says):
    changed(written, pattern, old, new)
    with pytest.raises(HandoutError, match=says) as error:
        scores(read_source(written), HOMEWORK)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (r"D_{\mathrm{KL}}(p \,\|\, q)", r"\nosuch{p}(p \,\|\, q)", r"1-.*\.md:18: the formula \\nosuch{p}\(p .* cannot be conv"),
        ("logistic regression for", "{{logistic}} regression for", r"1-.*\.md:5: {{logistic}} is unknown; known are points"),
    ],
)  # fmt: skip
def test_what_cannot_be_rendered_is_named_with_its_line(remade, written, monkeypatch, old, new, says):
    changed(written, "1-*.md", old, new)
    monkeypatch.setattr("staff.handout.__main__.written_folder", lambda homework: written)
    with pytest.raises(HandoutError, match=says) as error:
        made(handout_of(HOMEWORK))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("found", "says"),
    [(None, "pypandoc-binary is not installed; run: make handout"), ("0.1", "pypandoc-binary is 0.1, but")],
)
def test_a_missing_or_other_tool_is_named(monkeypatch, found, says):
    def version(name: str) -> str:
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(render, "version", version)
    with pytest.raises(HandoutError, match=says):
        render.check_tools()


def test_the_command_names_an_unknown_homework():
    command = [sys.executable, "-m", "staff.handout", "--homework", "hw7"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr == "error: --homework hw7: there is no such homework; known are hw1, hw10\n"
