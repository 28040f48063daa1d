"""Pairs to look at: what is alike, what is not, and the page that shows them."""

import html
import random
import re
import time
from functools import partial

import pytest

from src.errors import IntakeError
from src.grading import intake
from src.hw1.parts import HOMEWORK
from staff.audit.case import load_all
from staff.audit.subject import load_subject
from staff.grade_class.blocks import blocks_of
from staff.grade_class.disguise import WAYS, disguised
from staff.grade_class.metadata import Student
from staff.grade_class.pairs_page import marked_lines, pairs_page
from staff.grade_class.similarity import Answers, archived, pairs_to_look_at
from staff.grade_class.submissions import read
from staff.grade_class.synthetic import export, folder_of, make_class
from staff.grade_class.tokens import code_of, grams_of, names_in

SUBJECT = load_subject()
LONG = """        probabilities = torch.softmax(logits.double() - 3, dim=-1)
        cumulative = probabilities.cumsum(dim=1)  # the trick of my grandmother
        drawn = torch.searchsorted(cumulative, torch.rand(len(cumulative), 1))
        output.append(drawn)
        current_text = drawn
"""
OTHER = """        for row in range(logits.size(0)):
            weights = logits[row].exp().tolist()
            picked = random.choices(range(len(weights)), weights)
            output[-1][row] = torch.tensor(picked)
        current_text = output[-1]
"""


def answers(id: str, email: str = "", archive: str = "", **blocks: str) -> Answers:
    """Answers with these blocks, named like `b63` for part 6.3."""
    students = (Student(id, "", email or f"{id}@x.edu"),)
    return Answers(id, students, {f"6.{name[2]}": code for name, code in blocks.items()}, archive)


def ids(pairs) -> list[set[str]]:
    return [{pair.first.id, pair.second.id} for pair in pairs]


def synthetic(tmp_path, submissions: int, seed: int = 0) -> tuple[list[Answers], list[set[str]], list[str]]:
    """The active answers of a synthetic class, the copies in it, and the ids of right answers of the audit."""
    made = make_class(SUBJECT, submissions, 0, seed)
    (tmp_path / "export.zip").write_bytes(export(made))
    (tmp_path / "into").mkdir()
    handed_in = read(tmp_path / "export.zip", tmp_path / "into").submissions
    found = [
        Answers(handed.id, handed.students, blocks_of(HOMEWORK, handed.path / "questions"))
        for handed in handed_in
        if handed.path and handed.is_active
    ]
    copies = [{folder_of(n), folder_of(e.copied)} for n, e in enumerate(made) if e.copied is not None]
    return found, copies, [folder_of(n) for n, e in enumerate(made) if e.case.startswith("right/")]


# --- tokens ---


@pytest.mark.parametrize(
    "code",
    [
        "weights = f(logits, dim=1)\nh = weights * 2\n",
        "h = weights * 2\nweights = f(logits, dim=1)  # a comment\n",
        "w = f(logits,\n      dim=1)\n\n\nstuff = w * 2",
        "    w = g( logits, dim = 1 ) ; z = w*2",
    ],
)
def test_names_order_and_layout_do_not_matter(code):
    assert grams_of(code_of(code, {"logits"})) == grams_of(code_of("a = b(logits, dim=1)\nc = a * 2\n", {"logits"}))


@pytest.mark.parametrize(
    "code", ["a = b(logits, dim=2)\n", "a = b(text, dim=1)\n", "a = b.c(logits, dim=1)\n", "a = b(logits, axis=1)\n"]
)
def test_numbers_given_names_attributes_and_arguments_matter(code):
    given = {"logits", "text"}
    assert grams_of(code_of(code, given)) != grams_of(code_of("a = b(logits, dim=1)\n", given))


def test_marks_in_strings_are_no_comments():
    code = code_of("x = '# no'  # Yes,  THIS\ny = 'it''s' # \n")
    assert code.comments == {"yes, this"}
    assert names_in("a = b.c('d')  # e") == {"a", "b", "c"}


def test_a_bracket_that_is_not_closed_loses_nothing():
    assert code_of("x = f(1,\ny = 2").length == 9


def test_any_text_has_tokens_soon():
    started = time.process_time()
    for text in ("'''" * 7_000, "(" * 20_000, '"\\' * 10_000, "\\\n" * 10_000, "\0\ud800\u2028" * 5_000, "r" * 20_000):
        assert code_of(text).length >= 0
    assert time.process_time() - started < 5  # 0.1 s on an idle core; a slow expression takes minutes


# --- pairs ---


@pytest.mark.parametrize("ways", WAYS)
def test_a_disguised_copy_is_the_first_pair(ways):
    rng = random.Random(1)
    given = {"logits", "output", "current_text", "torch"}
    blocks = {name: OTHER.replace("range", name) for name in ("zip", "map", "list", "max", "sum", "any")}
    group = [answers(name, b63=block) for name, block in blocks.items()]
    copy = disguised("\n".join(line[8:] for line in LONG.splitlines()), ways, given, rng)
    first = pairs_to_look_at(HOMEWORK, [answers("ann", b63=LONG), *group, answers("bob", b63=copy)])[0]
    assert {first.first.id, first.second.id} == {"ann", "bob"}
    assert first.parts[0].score > 0.9


def test_what_many_wrote_weighs_little():
    """Two with a rare block come before ten with the same one."""
    many = [answers(f"many{i}", b63=OTHER) for i in range(10)]
    pairs = pairs_to_look_at(HOMEWORK, [*many, answers("ann", b63=LONG), answers("bob", b63=LONG)])
    assert ids(pairs)[0] == {"ann", "bob"}
    assert pairs[0].weight > 2 * pairs[1].weight


def test_short_blocks_never_count_alone():
    short = "    return log_likelihood(model, text) < -317.25\n"
    pair = [answers("ann", b65=short, b63=LONG), answers("bob", b65=short, b63=OTHER)]
    others = [answers(f"x{i}", b65=f"    return i < {i}\n", b63=LONG.replace("3", f"{i}")) for i in range(4, 9)]
    assert {"ann", "bob"} not in ids(pairs_to_look_at(HOMEWORK, [*pair, *others]))
    alike = [answers("ann", b65=short, b63=LONG), answers("bob", b65=short, b63=LONG)]
    (first, *_) = pairs_to_look_at(HOMEWORK, [*alike, *others])
    assert ids([first]) == [{"ann", "bob"}]
    assert [part.is_short for part in first.parts if part.score] == [False, True]


def test_an_odd_comment_counts_by_itself():
    comment = "  # my grandmother says this is stable\n"
    pair = [answers("ann", b63=LONG.rstrip() + comment), answers("bob", b63=OTHER.rstrip() + comment)]
    (found,) = pairs_to_look_at(HOMEWORK, [*pair, answers("eve", b63="    pass\n")])
    assert found.comments == ("my grandmother says this is stable",)


def test_given_comments_and_code_count_for_nothing():
    given = "        # torch.softmax and torch.multinomial may help.\n            past = new_past\n    return torch.cat(output, dim=1)\n"
    assert not pairs_to_look_at(HOMEWORK, [answers("ann", b63=given), answers("bob", b63=given)])


def test_two_submissions_of_one_student_are_no_pair():
    assert not pairs_to_look_at(HOMEWORK, [answers("a", "ann@x.edu", b63=LONG), answers("b", "ANN@x.edu", b63=LONG)])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_small_classes_have_pairs_too(count):
    assert len(pairs_to_look_at(HOMEWORK, [answers(f"x{i}", b63=LONG) for i in range(count)])) == count // 2


# --- the synthetic class ---


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_copies_come_first(tmp_path, seed):
    found, copies, right = synthetic(tmp_path, 300, seed)
    ranked = ids(pairs_to_look_at(HOMEWORK, found))
    assert len(copies) == 6
    assert all(copy in ranked[:10] for copy in copies)
    assert not any(pair <= set(right) for pair in ranked[:6])


def test_answers_written_to_differ_are_not_alike():
    """The audit's right answers whose blocks are all their own; median 0.03, and 0.30 the most of a long block."""
    cases = [case for case in load_all(SUBJECT) if case.kind == "right" and set(case.blocks) == set(HOMEWORK.numbers)]
    assert len(cases) > 15
    pairs = pairs_to_look_at(HOMEWORK, [Answers(case.name, (), case.blocks) for case in cases])
    assert not [pair for pair in pairs for part in pair.parts if part.score > 0.4 and not part.is_short]


def test_a_thousand_submissions_take_seconds(tmp_path):
    found, copies, _ = synthetic(tmp_path, 1000)
    started = time.process_time()
    ranked = ids(pairs_to_look_at(HOMEWORK, found))
    assert time.process_time() - started < 60  # 1 s on an idle core
    assert sum(copy in ranked[:10] for copy in copies) == 6


# --- archives of other years ---


def test_pairs_with_an_archive_are_found(tmp_path):
    for name, code in (("old1", LONG), ("old2", LONG), ("old3", OTHER)):
        folder = tmp_path / "2022" / name / "questions"
        folder.mkdir(parents=True)
        text = f"# TODO 6.6: x\n### START CODE HERE ###\n### END CODE HERE ###\n# TODO 6.3: x\n### START CODE HERE ###\n{code}### END CODE HERE ###\n"
        (folder / "sample.py").write_text(text, encoding="utf-8")
    (tmp_path / "2022" / "broken.zip").write_bytes(b"PK")
    old = archived(HOMEWORK, tmp_path / "2022", partial(intake.unpack, HOMEWORK))
    assert [(entry.id, entry.archive) for entry in old] == [("old1", "2022"), ("old2", "2022"), ("old3", "2022")]
    found = ids(pairs_to_look_at(HOMEWORK, [answers("ann", b63=LONG), *old]))
    assert {"ann", "old1"} in found
    assert {"ann", "old2"} in found
    assert {"old1", "old2"} not in found


def test_submissions_of_an_archive_are_unpacked_as_asked(tmp_path):
    (tmp_path / "2022" / "a" / "questions").mkdir(parents=True)

    def refuse(source, into):
        raise IntakeError("no")

    assert archived(HOMEWORK, tmp_path / "2022", refuse) == []


# --- the page ---


def page_of(*entries: Answers) -> str:
    names = {entry.id: entry.students[0].name for entry in entries}
    return pairs_page(HOMEWORK, pairs_to_look_at(HOMEWORK, entries), entries, names)


def test_the_page_shows_blocks_side_by_side_as_text():
    evil = LONG.replace("grandmother", "</pre><script>alert(1)</script>")
    page = page_of(answers("ann <b>", b63=evil), answers("bob", b63=evil.replace("drawn", "mine")))
    assert "<script" not in page
    assert "ann &lt;b&gt;" in page
    assert html.escape("</pre><script>") in page
    assert page.count("<mark>") >= 8


def test_the_page_loads_nothing_and_judges_nobody():
    page = page_of(answers("ann", b63=LONG), answers("bob", b63=LONG))
    assert "default-src 'none'" in html.unescape(page)
    assert not re.search(r"https?:|src=|@import|url\(", page.replace("default-src", ""))
    assert not re.search(r"plagiar|cheat|guilty|fraud|suspect", page, re.IGNORECASE)
    assert "This is evidence, and no verdict." in page


def test_the_page_names_submissions_as_told():
    entries = [answers("of ann", b63=LONG), answers("of bob", b63=LONG), answers("old", archive="2022", b63=LONG)]
    page = pairs_page(
        HOMEWORK, pairs_to_look_at(HOMEWORK, entries), entries, {"of ann": "Student A", "of bob": "Student B"}
    )
    assert "Student A" in page
    assert "old (2022)" in page
    assert "of ann" not in page


def test_the_page_of_no_pairs_says_so():
    assert "No two of 1 submissions" in page_of(answers("ann", b63=LONG))


def test_lines_that_others_have_are_marked():
    block = "    a = torch.sort(logits * 7)\n    b = open('file')\n"
    assert [is_shared for _, is_shared in marked_lines(HOMEWORK, "6.3", block, "x = torch.sort(logits * 7)")] == [
        True,
        False,
    ]
