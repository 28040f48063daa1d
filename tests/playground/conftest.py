"""The playground's server in a process of its own, and a browser to drive its page."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from src.files import ROOT
from tests.answers import SOLUTION, varied

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
DRIVER = shutil.which("chromedriver") or ""


@dataclass
class Server:
    """A playground that runs."""

    process: subprocess.Popen
    address: str

    def post(self, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        """The status and the text of an answer."""
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        request = urllib.request.Request(
            f"{self.address}api/{path}", content, {"content-type": "application/json", **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def json(self, path: str, **body: object) -> dict:
        """What a request is answered, which must succeed."""
        status, text = self.post(path, body)
        assert status == 200, text
        return json.loads(text)


@contextlib.contextmanager
def serving(questions: Path, *options: str):
    """A server on any free port."""
    for package in ("starlette", "uvicorn"):
        pytest.importorskip(package, reason=f"{package} is missing: make lint sets it up")
    command = [sys.executable, "-m", "src.playground", "--no-browser", "--port", "0", "--questions", str(questions)]
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        said = process.stdout.readline() + process.stdout.readline()
        address = re.search(r"http://\S+", said)
        assert address, said + process.stdout.read()
        yield Server(process, address[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def solved():
    """A server with the reference answers behind it."""
    with serving(SOLUTION) as server:
        yield server


@pytest.fixture
def slow_questions(tmp_path) -> Path:
    """The reference answers, of which `sample` takes more than a minute for 200 tokens."""
    slow = "__import__('time').sleep(0.4)\n            next_token ="
    return varied(tmp_path / "questions", "sample.py", ("next_token =", slow))


@pytest.fixture(scope="session")
def browser():
    """Chromium, without a window."""
    if not CHROMIUM or not DRIVER:
        pytest.skip("chromium or chromedriver is missing: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as driver:
        driver.set_window_size(1000, 900)
        driver.set_script_timeout(60)
        yield driver
