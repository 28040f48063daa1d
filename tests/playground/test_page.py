"""The playground's page in headless Chromium: what a student does there, on the reference answers and on stubs."""

import base64
import json
import os
import shutil
import time
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import pytest

from src.files import ROOT
from tests.answers import SOLUTION
from tests.playground.conftest import serving

AXE = Path(os.environ.get("AXE", ROOT / "node_modules/axe-core/axe.min.js"))
needs_axe = pytest.mark.skipif(not AXE.exists(), reason=f"axe-core is missing in {AXE}: npm install axe-core")
SECONDS = 120  # that a page may take; a wait ends as soon as it can
VIEWS = {
    "read": {"text": "O, my lord 😀, שלום qzxv", "point": "3"},
    "write": {"text": "O, my", "T": "0.7", "tree": "591(13(2867),11),1298(11)", "at": "591.13"},
    "compare": {"text": "We propose a", "ran": "true", "n": "12"},
}


class Page:
    """The page of a server in the browser."""

    def __init__(self, browser, server):
        self.browser, self.server = browser, server

    def open(self, view: str, **state: str) -> "Page":
        self.browser.get("about:blank")
        self.browser.get_log("browser")
        self.browser.get(f"{self.server.address}#{urlencode({'view': view, **state})}")
        return self.until("document.documentElement.dataset.ready")

    def run(self, script: str, *arguments):
        return self.browser.execute_script(script, *arguments)

    def until(self, condition: str) -> "Page":
        """Wait until a condition of JavaScript holds."""
        end = time.monotonic() + SECONDS
        while not self.run(f"return {condition}"):
            assert time.monotonic() < end, f"{condition}: {self.run('return document.body.innerText')}"
        return self

    def enter(self, selector: str, value: str) -> None:
        self.run(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input', {bubbles: true})); e.dispatchEvent(new Event('change', {bubbles: true}));",
            selector, value,
        )  # fmt: skip

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector)

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def state(self) -> dict[str, str]:
        """What the address says, once it is written."""
        self.browser.execute_async_script("setTimeout(arguments[0], 200)")  # after state.js's own, of 150 ms
        return {name: values[0] for name, values in parse_qs(self.run("return location.hash.slice(1)")).items()}


@pytest.fixture
def page(browser, solved):
    return Page(browser, solved)


@pytest.fixture
def own(browser, tmp_path):
    """A page whose student's folder, `own.folder`, holds the stubs."""
    folder = tmp_path / "questions"
    shutil.copytree(ROOT / "questions", folder, ignore=shutil.ignore_patterns("__pycache__"))
    with serving(folder) as server:
        page = Page(browser, server)
        page.folder = folder
        yield page


def test_a_text_that_is_pasted_is_read(page):
    page.open("read").enter("#read-text", "O, my <b>lord</b> 😀")
    answer = page.server.json("read", text="O, my <b>lord</b> 😀")
    total = f"{answer['total']:.3f}".replace("-", "−")
    page.until(f"document.querySelector('#total').innerText === {json.dumps(total)}")
    page.until("document.querySelector('#your-total').innerText")
    assert page.text("#your-total") == total
    assert page.text("#difference") == "0"
    assert len(page.texts("#read-tokens .token")) == len(answer["tokens"])
    assert page.texts("#read-tokens .bytes")[0] == "F0"
    assert page.run("return document.querySelectorAll('#read b').length") == 0


def test_html_in_a_text_stays_text(page):
    hostile = "<img src=x onerror=\"document.title='stolen'\"><script>document.title='stolen'</script>"
    for view in VIEWS:
        page.open(view, text=hostile, ran="true", n="2").until("document.querySelector('.token.r1, .token.r4')")
        assert "stolen" not in page.browser.title
        assert page.run("return document.querySelectorAll('main img, main script').length") == 0
    assert "onerror" in page.text("#out-a")


def test_pointing_at_a_token_shows_what_was_expected(page):
    page.open("read", text="O, my lord").until("document.querySelectorAll('#read-tokens .token').length === 4")
    page.run(
        "document.querySelectorAll('#read-tokens .token')[3].dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))"
    )
    detail = page.text("#detail")
    assert "·lord (id 591)" in detail
    assert "rank 1," in detail
    assert len(page.texts("#detail tr")) == 5


def test_arrow_keys_move_among_tokens(page):
    from selenium.webdriver.common.keys import Keys

    page.open("read", text="O, my lord").until("document.querySelectorAll('#read-tokens .token').length === 4")
    page.run("document.querySelector('#read-tokens .token').focus()")
    page.browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "·my (id" in page.text("#detail")
    assert page.run("return document.querySelectorAll('#read-tokens .token[tabindex=\"0\"]').length") == 1


def test_a_piece_of_the_data_is_read_and_placed(page):
    page.open("read").enter("#dataset", "random")
    page.until("document.querySelector('#histogram .mark-text')?.textContent.startsWith('this text: −6')")
    assert page.text("#histogram-note").endswith("as this text has.")
    at, left, right = page.run("""
        const x = (each, name) => Number(each.getAttribute(name));
        const bars = [...document.querySelectorAll("#histogram .series0")].map((bar) => x(bar, "x"));
        return [x(document.querySelector("#histogram .mark"), "x1"), Math.min(...bars), Math.max(...bars)];
    """)
    assert left - 1 <= at <= right + 20  # among the random letters


def test_the_slider_changes_the_shares(page):
    page.open("write", text="O, my").until("document.querySelector('#head-2 .same')")
    first = page.text("#bars .value")
    page.enter("#T", "0.1")
    page.until(f"document.querySelector('#bars .value').innerText !== {json.dumps(first)}")
    shares = page.server.json("next", text="O, my", temperature=0.1)["horizons"]
    assert page.text("#bars .value") == f"{100 * shares[0]['p'][0]:.0f}%"
    assert page.text("#T-value") == "0.10"
    page.until("document.querySelector('#head-1 .same')?.innerText === 'yours: difference 0'")
    assert page.state()["T"] == "0.1"


def test_tokens_are_taken_and_branches_kept(page):
    page.open("write", text="O, my").until("document.querySelector('#bars .take').innerText === '·lord'")
    page.click("#bars .take")
    page.until("document.querySelectorAll('#path .token').length === 1")
    page.until("document.querySelector('#bars .take').innerText === ','")
    page.click("#bars .take")
    page.until("document.querySelectorAll('#path .token').length === 2")
    page.click("#path .token:nth-of-type(1)")  # back to the place of the first token
    page.until("document.querySelectorAll('#path .token').length === 0")
    page.until("document.querySelector('#bars .take').innerText === '·lord'")
    page.click("#bars tr:nth-child(2) .take")
    page.until("document.querySelectorAll('#path .token').length === 1")
    state = page.state()
    assert state["tree"] == "591(11),1298"
    assert state["at"] == "1298"
    assert page.texts("#tree .token") == ["the text", "·lord", ",", "·soul"]


def test_sampling_draws_what_the_seed_says(page):
    page.open("write", text="We propose", seed="7").until("document.querySelector('#head-1 .same')")
    page.click("#sample-more")
    page.until("document.querySelectorAll('#path .token').length === 10 && !document.querySelector('#sample').disabled")
    ids = [int(token) for token in page.state()["at"].split(".")]
    for i in range(3):
        assert page.server.json("draw", text="We propose", ids=ids[:i], seed=7)["id"] == ids[i]
    assert len(page.texts("#entropies rect")) == 11


def test_two_settings_are_compared(page):
    page.open("compare", text="We propose", n="8", a="gpt2-mini,0.1,1,40,yours", b="gpt2-mini,3,2,40,library")
    page.click("#start")
    for side in "ab":
        page.until(f"document.querySelectorAll('#out-{side} .token').length === 8")
    assert page.texts("#out-a .token") != page.texts("#out-b .token")
    assert page.text("#note-a").startswith("8 tokens, on average log p = −")
    page.until("!document.querySelector('#start').disabled")
    assert page.state()["ran"] == "true"


def test_a_comparison_can_be_stopped(browser, slow_questions):
    with serving(slow_questions) as server:
        page = Page(browser, server).open("compare", text="We propose", n="200")
        page.click("#start")
        page.until("document.querySelectorAll('#out-a .token').length > 2")
        page.click("#stop")
        page.until("!document.querySelector('#start').disabled")
        count = len(page.texts("#out-a .token"))
        assert page.server.json("about")
        assert len(page.texts("#out-a .token")) == count < 200


@pytest.mark.parametrize("view", list(VIEWS))
def test_a_link_shows_the_same(page, view):
    seen = "[...document.querySelectorAll('.tokens, .value, #detail, #total, #difference, #tree, .same')].map((e) => e.innerText)"
    both = []
    for _ in range(2):
        page.open(view, **VIEWS[view], numbers="true")
        settled = {
            "read": "document.querySelector('#your-total').innerText",
            "write": "document.querySelector('#head-2 .same')",
            "compare": "!document.querySelector('#start').disabled && document.querySelectorAll('#out-b .token').length === 12",
        }[view]
        page.until(settled)
        both.append(page.run(f"return {seen}"))
        assert page.state().items() >= VIEWS[view].items()
    assert both[0] == both[1]


def test_a_text_that_is_too_long_says_so(page):
    page.open("read").enter("#read-text", " a" * 600)
    page.until("!document.querySelector('#error').hidden")
    assert page.text("#error") == "the text has 600 tokens, but bundled reads at most 512; shorten it"
    page.enter("#read-text", "a" * 200_000)
    page.until("document.querySelector('#error').innerText.includes('200,000 characters')")
    page.enter("#read-text", "a b")
    page.until("document.querySelector('#error').hidden")


def test_unwritten_blocks_say_so_and_the_rest_works(own):
    own.open("read", text="O, my").until("document.querySelector('#read-problem').innerText")
    assert "6.4 is not written yet" in own.text("#read-problem")
    assert own.text("#total") == "−7.494"
    own.open("write", text="O, my").until("document.querySelector('#head-2 .problem')")
    assert "6.6 is not written yet" in own.text("#head-1")
    assert "6.7 is not written yet" in own.text("#head-2")
    assert own.text("#bars .value") == "34%"
    own.click("#sample")
    own.until("document.querySelector('#write-problem').innerText.includes('is not written yet')")
    own.enter("[data-state=code]", "library")
    own.click("#sample")
    own.until("document.querySelectorAll('#path .token').length === 1")


def test_a_file_that_is_saved_is_read_again(own):
    own.open("read", text="O, my").until("document.querySelector('#read-problem').innerText")
    shutil.copy(SOLUTION / "likelihood.py", own.folder)
    own.until("document.querySelector('#difference').innerText === '0'")
    assert own.text("#read-problem") == ""
    assert own.text("#reloaded").startswith("read again at")
    code = (SOLUTION / "likelihood.py").read_text(encoding="utf-8")
    (own.folder / "likelihood.py").write_text(code.replace("return token_log_probs", "return <b>"), encoding="utf-8")
    own.until("document.querySelector('#read-problem pre')")
    assert "SyntaxError" in own.text("#read-problem")
    assert own.run("return document.querySelectorAll('#read-problem b').length") == 0


@pytest.mark.parametrize("view", list(VIEWS))
def test_what_is_seen_is_exported(page, view):
    page.open(view, **VIEWS[view]).until("document.querySelector('.token.r1')")
    page.run("""
        window.saved = {}; window.blobs = [];
        const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => { window.blobs.push(blob); return make(blob); };
        HTMLAnchorElement.prototype.click = function () { window.saved[this.download] = window.blobs.at(-1); };
    """)
    for number in (1, 2, 3):
        page.click(f"[data-export={view}] button:nth-of-type({number})")
    page.until("Object.keys(window.saved).length === 3")
    read = "const done = arguments[1]; window.saved[arguments[0]].arrayBuffer().then((b) => done(btoa([...new Uint8Array(b)].map((x) => String.fromCharCode(x)).join(''))))"
    svg, png, numbers = (
        base64.b64decode(page.browser.execute_async_script(read, f"playground-{view}.{kind}"))
        for kind in ("svg", "png", "json")
    )
    assert svg.startswith(b"<svg ")
    assert svg.count(b"<text") > 10
    assert page.run(
        "return new DOMParser().parseFromString(arguments[0], 'image/svg+xml').querySelector('parsererror') === null",
        svg.decode(),
    )
    assert png.startswith(b"\x89PNG")
    assert len(png) > 5000
    assert json.loads(numbers)["text"] == VIEWS[view]["text"]


@needs_axe
@pytest.mark.parametrize(("width", "is_dark"), [(1000, False), (360, True)])
@pytest.mark.parametrize("view", list(VIEWS))
def test_views_are_accessible_and_fit_on_a_phone(page, view, width, is_dark):
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.open(view, **VIEWS[view]).until("document.querySelector('section:not([hidden]) .token.r1')")
    if view == "read":
        page.until("document.querySelector('#histogram .mark')")
        page.run("document.querySelectorAll('#read-tokens .token')[2].focus()")
    page.run(AXE.read_text(encoding="utf-8"))
    run = "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then((found) => done(found))"
    found = page.browser.execute_async_script(run)
    violations = [f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]]
    too_wide = page.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert violations == []
    assert len(found["passes"]) > 10
    assert too_wide == 0


def test_the_browser_finds_nothing_to_complain_of(page):
    for view in VIEWS:
        page.open(view, **VIEWS[view]).until("document.querySelector('.token.r1')")
        assert page.browser.get_log("browser") == []


def test_a_server_that_has_ended_is_told(browser):
    with serving(SOLUTION) as server:
        page = Page(browser, server).open("read", text="O, my")
        server.process.kill()
        page.until("!document.querySelector('#error').hidden")
    assert "start it again with make play" in page.text("#error")


def test_without_functions_the_model_is_alone(browser, tmp_path):
    """As in another homework's starter: nothing speaks of the student's code, and the library draws."""
    with serving(tmp_path) as server:
        page = Page(browser, server).open("read", text="O, my lord")
        page.until("document.querySelector('#total').innerText")
        assert page.text("#about").strip().startswith("Model")
        assert "your" not in page.text("body").lower()
        page.open("write", text="O, my", T="0.7").until("document.querySelector('#bars .value').innerText")
        page.click("#sample")
        page.until("document.querySelectorAll('#path .token').length === 1")
        assert "your" not in page.text("body").lower()
        page.open("compare", text="We propose a", ran="true", n="2")
        page.until("document.querySelectorAll('#out-b .token').length === 2")
        assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
