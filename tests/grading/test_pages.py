"""The page of one submission: what it says, what it never says, and that nothing in it comes to life."""

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from src.grading.chart import Chart, Histogram, Series
from src.grading.homework import Artifact, Homework, Part
from src.grading.pages.figures import HEIGHT, TOP, figure
from src.grading.pages.rendering import readable
from src.grading.pages.student import student_page
from src.grading.results import Results, TestResult

PART = Part("1.1", "Toys", "toy.py", "toy", lambda run: {}, (Artifact("toy.txt", lambda path: None),))
HOMEWORK = Homework(
    "toy", "toy.2023", "main.py", (PART, replace(PART, number="1.2", artifacts=(), bonus=True)), lambda model: (),
    str, lambda settings, root: None, str, lambda settings: "python main.py",
)  # fmt: skip
CHART = Chart("How often", "", ("token 0", "token 1"), (0.25, 0.75), (0.5, 0.5))
RIGHT = TestResult("1.1", "1.1.1", "Counts", 2, 2, None, "", "", False, chart=CHART)
WRONG = TestResult(
    "1.1", "1.1.2", "Adds", 0, 3, None, "input: f(1)", "input: f(1)", False, input="`f` of 1", expected="2", got="3",
    hint="one more", reason="the value is wrong", mistakes=("off by one",), printed="hello", chart=CHART,
)  # fmt: skip
HIDDEN = TestResult(
    "1.1", "1.1.3", "Adds more", 0, 1, "after_published", "This test is hidden.\nthe value is wrong", "input: f(77)",
    True, input="f(77)", expected="78", got="79", hint="secret", reason="leaked", printed="77", mistakes=("off by one",),
    chart=Chart("hidden numbers", "", ("771",), (772.0,), (773.0,)), seconds=774.0,
)  # fmt: skip
BONUS = TestResult("1.2", "1.2.1", "More", 5, 5, None, "", "", False)
HOSTILE = (
    "</pre></style><script>alert(1)</script><img src=https://example.org/x onerror=alert(1)>\u202e\x1b[31m\ud800\x00"
)


class Tags(HTMLParser):
    """What a page consists of; void elements have no end."""

    def __init__(self, page):
        super().__init__()
        self.all, self.open, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def named(self, tag):
        return [attributes for name, attributes in self.all if name == tag]


def page_of(*tests, output="", **options):
    return student_page(HOMEWORK, Results(tests, 10, output), **options)


def text_of(page):
    return " ".join(
        " ".join(data for tag, data in Tags(page).texts if tag not in ("style", "script", "progress", "title")).split()
    )


def test_the_first_screen_says_what_was_earned_and_what_to_do():
    text = text_of(page_of(RIGHT, WRONG, HIDDEN, BONUS))
    assert "2 of 6 points and 5 of 5 bonus points What to do next" in text
    assert "1.1 Toys 4 points to earn One more Then check it: python grader.py 1.1" in text


def test_without_a_loss_the_next_thing_is_the_upload():
    assert "Every test passes. Pack your work with bash make_submission.sh and upload toy.2023.zip" in text_of(
        page_of(RIGHT)
    )


def test_a_page_of_the_class_names_the_student_and_no_command():
    page = page_of(WRONG, whose="Ada", remarks=["Handed in."])
    assert "Ada" in text_of(page)
    assert "Handed in." in text_of(page)
    assert "python grader.py" not in page


def test_a_lost_test_shows_input_expected_got_hint_and_print():
    text = text_of(page_of(WRONG))
    assert "Hint: one more Input f of 1 Expected 2 Got 3 Your code printed hello" in text
    assert "<code>f</code> of 1" in page_of(WRONG)


def test_a_hidden_test_shows_no_number_of_its_own():
    page = page_of(RIGHT, HIDDEN)
    assert "This test is hidden." in page
    for secret in ("77", "78", "79", "secret", "leaked", "hidden numbers", "off by one"):
        assert secret not in text_of(page), secret


def test_what_students_never_see_is_not_there():
    assert "Adds more" not in page_of(RIGHT, replace(HIDDEN, visibility="hidden"))


def test_what_could_not_be_graded_says_why():
    text = text_of(page_of(output="the zip is `empty`"))
    assert "Not graded" in text
    assert "the zip is empty" in text


def test_hostile_text_stays_text():
    fields = dict.fromkeys(("name", "input", "expected", "got", "hint", "reason", "printed"), HOSTILE)
    chart = Chart(
        HOSTILE, HOSTILE, (HOSTILE,) * 9, (1.0,) * 9, (math.nan, math.inf, -math.inf, 1e308, -1e308, 0, 1, 2, 3)
    )
    histogram = Histogram(HOSTILE, HOSTILE, (Series(HOSTILE, (math.nan, math.inf, 1e300, 1.0)),))
    tests = replace(WRONG, chart=chart, **fields), replace(WRONG, number="1.1.9", chart=histogram, **fields)
    page = page_of(*tests, output=HOSTILE, whose=HOSTILE, remarks=[HOSTILE])
    tags = Tags(page)
    assert not tags.open
    assert not tags.named("script")
    assert not tags.named("img")
    assert not re.search("[\u202e\x1b\x00\ud800]", page)
    assert page.encode()
    assert "\\u202e" in page


def test_the_policy_allows_the_style_and_nothing_else():
    page = page_of(RIGHT, WRONG)
    (policy,) = [meta["content"] for meta in Tags(page).named("meta") if "http-equiv" in meta]
    style = re.search("<style>(.*?)</style>", page, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{digest}'"
    assert not [attributes for _, attributes in Tags(page).all if "style" in attributes]


def test_a_page_asks_for_nothing_from_elsewhere():
    page = page_of(RIGHT, WRONG, HIDDEN)
    assert "://" not in page
    assert "url(" not in page
    assert "@import" not in page
    for _, attributes in Tags(page).all:
        assert not {"src", "srcset", "data", "action"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")


def test_every_link_leads_somewhere_and_no_id_is_twice():
    tags = Tags(page_of(RIGHT, WRONG, HIDDEN, BONUS))
    ids = [attributes["id"] for _, attributes in tags.all if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {each["href"][1:] for each in tags.named("a")} <= set(ids)
    named = [name for each in tags.named("svg") for name in each.get("aria-labelledby", "").split()]
    assert named
    assert set(named) <= set(ids)


@pytest.mark.parametrize("text", ["a" * 100_000, "&" * 100_000, "\x1b" * 100_000, "é" * 100_000, "\n" * 100_000])
def test_a_page_stays_below_100_kb(text):
    fields = dict.fromkeys(("input", "expected", "got", "hint", "printed"), text)
    values = tuple(i / 24 for i in range(24))
    chart = Chart(text, "", tuple(f"token {i}" for i in range(24)), values, values)
    tests = [replace(WRONG, number=f"1.1.{i}", chart=chart if i < 6 else None, **fields) for i in range(17)]
    page = page_of(*tests, output=text, whose=text)
    assert len(page.encode()) < 100_000
    assert "characters…" in page


def test_long_text_loses_its_middle():
    text = readable("a" * 600 + "b" * 600, 1000)
    assert text == "a" * 500 + " […200 characters…] " + "b" * 500


def test_scripts_that_need_joiners_keep_them():
    assert readable("می\u200cخواهم", 100) == "می\u200cخواهم"
    assert readable("a\u2066b", 100) == "a\\u2066b"


# --- figures ---


def test_bars_stand_where_their_values_are():
    drawn = figure(Chart("c", "", ("a", "b"), (1.0, -1.0), (0.5, -0.5)))
    right, got, low, _ = drawn.bars
    assert (right.kind, got.kind) == ("expected", "got")
    assert right.height == pytest.approx(2 * got.height)
    assert right.y + right.height == drawn.zero == low.y
    assert got.x > right.x
    assert got.x + got.width < right.x + right.width
    assert drawn.rows == (("a", "1", "0.5"), ("b", "−1", "−0.5"))
    assert "differ most for a: expected 1, yours 0.5" in drawn.description


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0, 1e-300])
@pytest.mark.parametrize("right", [0.0, 1.0, -80.5, 1e-300])
def test_no_value_leaves_the_plot(value, right):
    drawn = figure(Chart("c", "", ("a",), (right,), (value,)))
    for bar in drawn.bars:
        assert TOP <= bar.y <= bar.y + bar.height <= TOP + HEIGHT + 1


def test_equal_values_are_one_bar_in_the_middle():
    drawn = figure(Histogram("h", "", (Series("a", (14.0,) * 5),)))
    (bar,) = drawn.bars
    assert 40 < bar.x < 60
    assert "14" in [tick.text for tick in drawn.x_ticks]


def test_a_histogram_counts_every_value_once():
    drawn = figure(Histogram("h", "nats", (Series("a", tuple(map(float, range(100)))), Series("b", (5.0, math.nan)))))
    heights = [bar.height for bar in drawn.bars if bar.kind == "series0"]
    per_value = drawn.zero - drawn.y_ticks[-1].at
    assert sum(heights) / per_value * float(drawn.y_ticks[-1].text) == pytest.approx(100, rel=0.05)
    assert drawn.rows == (("a", "100", "0", "49.5", "99"), ("b", "2", "5", "5", "5"))
    assert "1 not drawn" in drawn.description


def test_nothing_to_draw_is_no_figure():
    assert figure(Chart("c", "", (), (), ())) is None
    assert figure(Histogram("h", "", (Series("a", (math.nan,)),))) is None


def test_many_labels_lose_the_word_that_they_share():
    labels = tuple(f"token {i}" for i in range(17))
    drawn = figure(Chart("c", "", labels, (1.0,) * 17, (1.0,) * 17))
    assert [tick.text for tick in drawn.x_ticks] == [str(i) for i in range(0, 17, 2)]
    assert drawn.caption == "token"
