"""The pages in a browser: no violation of accessibility rules, nothing wider than a phone, and the policy holds.

Needs Chromium, and axe-core where AXE says or `npm install axe-core` has put it; else these tests are skipped.
"""

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from src.files import ROOT
from src.grading.chart import Chart, Histogram, Series
from src.grading.pages.student import student_page
from src.grading.results import Results
from staff.grade_class.report import class_page
from tests.grading.test_pages import BONUS, HIDDEN, HOMEWORK, HOSTILE, RIGHT, WRONG
from tests.staff.test_class_pages import row
from tests.staff.test_similarity import LONG, answers, page_of

AXE = Path(os.environ.get("AXE", ROOT / "node_modules/axe-core/axe.min.js"))
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
REPORT = """
for (const details of document.querySelectorAll("details")) details.open = true;
axe.run({resultTypes: ["violations"]}).then((found) => {
  const report = document.createElement("pre");
  report.id = "report";
  const nodes = found.violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.html}`));
  const width = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  report.textContent = JSON.stringify({violations: nodes, passes: found.passes.length, tooWide: width});
  document.body.append(report);
});
"""

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="chromium is missing: apt-get install chromium")
needs_axe = pytest.mark.skipif(not AXE.exists(), reason=f"axe-core is missing in {AXE}: npm install axe-core")


def browsed(page, path, width=1000, is_dark=False):
    """What the page is in the browser after its scripts have run, and what the browser complains of."""
    path.write_text(page, encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-dev-shm-usage", f"--user-data-dir={path.parent / 'profile'}", f"--window-size={width},900",
        f"--blink-settings=preferredColorScheme={0 if is_dark else 1}", "--enable-logging=stderr",
        "--virtual-time-budget=20000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    return process.stdout, [line for line in process.stderr.splitlines() if "CONSOLE" in line]


def pages():
    chart = Chart("How often", "", tuple(f"token {i}" for i in range(19)), (1 / 19,) * 19, (0.1, *(0.05,) * 18))
    values = Histogram("Values", "nats", tuple(Series(f"kind {i}", (-1.0 * i, -2.0, -3.5)) for i in range(3)))
    tests = (
        RIGHT, replace(WRONG, chart=chart, got="x" * 500, printed=HOSTILE), HIDDEN, BONUS,
        replace(WRONG, number="1.1.7", score=1, chart=values),
    )  # fmt: skip
    rows = [row(1, "Ada Lovelace", tests), row(2, "n" * 300), row(3, "Cyd", status="failed", error="e" * 300)]
    return {
        "lost": student_page(HOMEWORK, Results(tests, 10, "a note")),
        "right": student_page(HOMEWORK, Results((RIGHT, BONUS), 10, ""), "Ada", ["Handed in."]),
        "refused": student_page(HOMEWORK, Results((), 10, "the zip is empty")),
        "class": class_page(HOMEWORK, rows, before={"submission_1": 3.0}),
        "pairs": page_of(answers("ann", b63=LONG + "x" * 300), answers("bob", b63=LONG, b64=LONG)),
    }


@needs_chromium
@needs_axe
@pytest.mark.parametrize(("width", "is_dark"), [(1000, False), (360, True)])
@pytest.mark.parametrize("name", list(pages()))
def test_pages_are_accessible_and_fit_on_a_phone(name, width, is_dark, tmp_path):
    page = re.sub("<meta http-equiv.*?>", "", pages()[name])  # the policy forbids what looks at the page
    scripts = f"<script>{AXE.read_text(encoding='utf-8')}</script><script>{REPORT}</script>"
    dom, _ = browsed(page.replace("</body>", f"{scripts}</body>"), tmp_path / "page.html", width, is_dark)
    report = json.loads(html.unescape(re.search('<pre id="report">(.*?)</pre>', dom, re.S)[1]))
    assert report["violations"] == []
    assert report["passes"] > 10
    assert report["tooWide"] == 0


@needs_chromium
def test_the_browser_finds_nothing_against_the_policy(tmp_path):
    for name, page in pages().items():
        dom, complaints = browsed(page, tmp_path / f"{name}.html")
        assert complaints == []
        assert ('<p class="search">' in dom) == (name == "class")  # its script has run


@needs_chromium
def test_the_policy_stops_what_does_not_belong_to_the_page(tmp_path):
    added = "<script>document.title = 'stolen'</script><img src='https://example.org/x.png'></body>"
    dom, complaints = browsed(pages()["lost"].replace("</body>", added), tmp_path / "page.html")
    assert "<title>stolen" not in dom
    assert len([line for line in complaints if "Content Security Policy" in line]) == 2


@needs_chromium
def test_the_table_of_the_class_is_searched_and_sorted(tmp_path):
    rows = [row(1, "Bob", (RIGHT,)), row(2, "ada", (WRONG,)), row(3, "Cyd", status="failed", error="a worker died")]
    script = """
    const names = () => [...document.querySelectorAll("#table tbody tr")].filter((row) => !row.hidden)
      .map((row) => row.cells[0].textContent.trim()).join();
    const button = (text) => [...document.querySelectorAll("th button")].find((each) => each.textContent === text);
    const seen = [];
    for (const text of ["Name", "Name", "Total", "Total"]) { button(text).click(); seen.push(names()); }
    search.value = "FAIL"; search.dispatchEvent(new Event("input")); seen.push(names() + " " + found.textContent);
    document.title = seen.join("; ");
    """
    page = re.sub("<meta http-equiv.*?>", "", class_page(HOMEWORK, rows)).replace(
        "</body>", f"<script>{script}</script></body>"
    )
    dom, _ = browsed(page, tmp_path / "page.html")
    expected = "ada,Bob,Cyd; Cyd,Bob,ada; Bob,ada,Cyd; ada,Bob,Cyd; Cyd 1 of 3"
    assert re.search("<title>(.*?)</title>", dom)[1] == expected
