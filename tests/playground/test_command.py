"""`python -m src.playground`, and `show` for notebooks."""

import re
import socket
import subprocess
import sys

import pytest

import src.playground.__main__ as command
from src.errors import ConfigError, PlaygroundError
from src.files import ROOT
from src.playground import show
from tests.answers import SOLUTION


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "src.playground", "--no-browser", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "gpt9"), "error: --model gpt9: there is no such model; known are gpt2, gpt2-mini"),
        (("--questions", "nowhere"), "error: --questions nowhere: there is no such folder; it must hold"),
        (("--port", "99999"), "error: --port 99999: cannot be used (it must lie between 0 and 65535)"),
    ],
)
def test_a_mistyped_option_is_one_line(arguments, says):
    process = run(*arguments)
    assert process.returncode == 1
    assert process.stderr.startswith(says)
    assert process.stderr.count("\n") == 1


def test_a_port_in_use_is_said():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: cannot be used .*; choose another one"):
            command.listen(port)


def test_without_a_port_any_free_one_will_do(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(command, "PORT", other.getsockname()[1])
        with command.listen(None) as listener:
            assert listener.getsockname()[0] == "127.0.0.1"


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["playground"])
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "uvicorn" else True)
    with pytest.raises(ConfigError, match=r"^uvicorn missing; run `make play`"):
        command.main()


def test_a_notebook_shows_the_tokens():
    view = show("O, my <b>lord</b>\n😀", questions=SOLUTION)
    html = view._repr_html_()
    assert "<b>" not in html
    assert len(re.findall("<span title=", html)) == len(view.reading.tokens)
    assert "rank 5, log p = -3.259" in html
    assert "⏎" in html
    assert "[F0]" in html
    assert "underline double" in html
    assert "difference 0" in repr(view)


def test_a_notebook_says_what_is_not_written():
    assert "6.4 is not written yet" in repr(show("O, my"))


def test_a_notebook_says_what_cannot_be_read():
    with pytest.raises(PlaygroundError, match="there is no text yet"):
        show("")
