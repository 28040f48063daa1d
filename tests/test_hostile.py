"""Hostile submissions: each gets what its honest part deserves, changes nothing outside its scratch folder, and ends.

The attacks go against the grading process of the test itself, its files and 127.0.0.1; each is bounded in number and time.
"""

import os
import pickle
import shutil
import sys
import time
import zipfile
from pathlib import Path

import pytest

from src.config import ROOT
from tests.answers import SOLUTION, graded, points, varied

linux = pytest.mark.skipif(sys.platform != "linux", reason="these protections are Linux's")
pytestmark = linux

TOP = '"""Problem 6.4: the log-likelihood of a text."""\n'

# What stands at the top of likelihood.py, or of log_likelihood; the rest of the answers is right.
# name: (code, inside the function?, what the feedback says of 6.4)
ATTACKS = {
    "endless loop": ("while True:\n    pass", True, "your code took too long"),
    "fork bomb": ("import os\nfor _ in range(1000):\n    os.fork()", True, "PermissionError"),
    "double fork": ("import os, subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)", True, "PermissionError"),
    "thread bomb": ("import threading, time\nfor _ in range(10**4):\n    threading.Thread(target=time.sleep, args=(99,), daemon=True).start()", True, "your code raised an error"),
    "memory bomb": ("x = []\nwhile True:\n    x.append(bytearray(10**7))", True, "your code used more memory than it may"),
    "exit": ("import sys\nsys.exit(0)", True, "your code called exit()"),
    "os._exit": ("import os\nos._exit(0)", True, "your code ended its process"),
    "segfault": ("import ctypes\nctypes.string_at(0)", True, "segmentation fault"),
    "kill itself": ("import os\nos.kill(os.getpid(), 9)", True, "your code's process crashed"),
    "kill all": ("import os\nos.kill(-1, 9)", True, "PermissionError"),
    "kill the grader": ("import os\nos.kill(os.getppid(), 9)", True, "PermissionError"),
    "prints": ("while True:\n    print('x' * 10**5)", True, "your code printed far too much"),
    "fill the disk": ("i = 0\nwhile True:\n    i += 1\n    open(f'{i}.bin', 'wb').write(b'x' * 5 * 10**6)", True, "your code wrote more files than it may"),
    "recursion": ("def f():\n    return f()\nreturn f()", True, "RecursionError"),
    "sleeping in C": ("import time\ntime.sleep(1000)", True, "your code took too long"),
    "ignoring signals": ("import signal\nfor s in (1, 2, 15):\n    signal.signal(s, signal.SIG_IGN)\nwhile True:\n    pass", True, "your code took too long"),
    "network": ("import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=2)", True, "PermissionError"),
    "hidden tests": ("return len(open('{root}/staff/hidden_tests.py').read())", True, "PermissionError"),
    "labels": ("return len(open('{root}/staff/labels/snippets.json').read())", True, "PermissionError"),
    "results": ("open('{results}', 'w').write('{\"score\": 100}')", True, "PermissionError"),
    "write elsewhere": ("open('/tmp/{name}', 'w')", True, "PermissionError"),
    "weights file": ("open('{root}/checkpoints/gpt2-mini/model.safetensors', 'r+b')", True, "PermissionError"),
    "others' memory": ("import os\nreturn len(open(f'/proc/{os.getppid()}/mem', 'rb').read(10))", True, "PermissionError"),
    "nan": ("return float('nan')", True, "nan"),
    "infinity": ("return float('-inf')", True, "-inf"),
    "no message": ("raise Exception", True, "your code raised an error"),
    "own exception": ("class E(BaseException):\n    def __str__(self):\n        raise RuntimeError\nraise E", True, "your code"),
    "equal to all": ("class Equal(float):\n    def __eq__(self, o):\n        return True\n    __lt__ = __gt__ = __le__ = __ge__ = __eq__\nreturn Equal(3)", True, "a value of type Equal"),
    "huge integer": ("return 10 ** 5000", True, "a number"),
    "huge tensor": ("return torch.zeros(10**7)", True, "a number"),
    "patching": ("import torch, unittest, builtins\ntorch.equal = lambda *a: True\ntorch.Tensor.__eq__ = lambda *a: True\nunittest.TestCase.run = lambda *a: None\nbuiltins.abs = lambda x: 0\nbuiltins.float.__class__\nreturn -1.0", True, "-1"),
    "forged answers": ("import os, socket\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'\\0' * 10**5)\n    except OSError:\n        pass\nreturn -1.0", True, "expected"),
    "forged length": ("import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'\\xff' * 8)\n    except OSError:\n        pass\nimport time\ntime.sleep(99)", True, "no answer"),
    "while importing": ("import os\nos._exit(3)", False, "your code ended its process"),
}  # fmt: skip


@pytest.fixture(scope="module")
def listener():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_earns_nothing_and_nothing_else_happens(name, tmp_path, listener):
    code, inside, says = ATTACKS[name]
    results = tmp_path / "results" / "results.json"
    results.parent.mkdir(mode=0o700)
    port = listener.getsockname()[1]
    marker = f"attack-{os.getpid()}-{name.replace(' ', '-')}"
    for placeholder, value in {"{root}": ROOT, "{results}": results, "{name}": marker, "{port}": port}.items():
        code = code.replace(placeholder, str(value))
    indented = "".join(f"    {line}\n" for line in code.splitlines())
    replacement = (
        ("    with torch.no_grad():\n", indented + "    with torch.no_grad():\n")
        if inside
        else (TOP, TOP + code + "\n")
    )
    weights = (ROOT / "checkpoints" / "gpt2-mini" / "model.safetensors").stat().st_mtime_ns

    began = time.monotonic()
    found = graded(varied(tmp_path / "questions", "likelihood.py", replacement), results, "6.4", "--time-limit", "8")

    assert time.monotonic() - began < 30
    # (patching returns a float, which is worth its point)
    assert points(found) == {"6.4": 1.0 if name == "patching" else 0.0}, found
    output = next(test["output"] for test in found["tests"] if test["number"] == "6.4.1")
    assert says in output
    hidden = [test["output"] for test in found["tests"] if test["number"] in ("6.4.3", "6.4.4")]
    assert all(len(text) < 200 and "Error" not in text for text in hidden)
    assert not [p for p in Path("/tmp").iterdir() if p.lstat().st_uid >= 1_000_000]  # what a worker's user owns
    assert not Path("/tmp", marker).exists()
    assert (ROOT / "checkpoints" / "gpt2-mini" / "model.safetensors").stat().st_mtime_ns == weights


def test_no_process_and_no_file_is_left(tmp_path, open_folder):
    def running() -> set[str]:
        return {p.name for p in Path("/proc").iterdir() if p.name.isdigit() and p.stat().st_uid >= 1_000_000}

    before = running()
    code = "import os\nopen('left', 'w').write('x')\nos.mkdir('d')\nos.chmod('d', 0)\nwhile True:\n    pass"
    indented = "".join(f"    {line}\n" for line in code.splitlines())
    old = "    with torch.no_grad():\n"
    folder = varied(tmp_path / "questions", "likelihood.py", (old, indented + old))
    environment = os.environ | {"TMPDIR": str(open_folder)}
    found = graded(folder, tmp_path / "results.json", "6.4", "--time-limit", "6", env=environment)
    assert found["score"] == 0
    assert not list(open_folder.iterdir())
    left, deadline = running() - before, time.monotonic() + 60
    while left and time.monotonic() < deadline:  # the workers of other gradings at this moment go by themselves
        time.sleep(0.5)
        left &= running()
    assert not left


def test_a_pickle_in_submit_is_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    shutil.copytree(SOLUTION, tmp_path / "s" / "questions", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "s" / "submit").mkdir()
    (tmp_path / "s" / "submit" / "run.json").write_text(
        '{"made_with": {"model": "gpt2-mini"}, "parts": {"6.5": {"questions": "questions", "code": {}, "files": {}}}}'
    )
    for name in ("classification.pkl", "random_raw.pkl"):
        (tmp_path / "s" / "submit" / name).write_bytes(pickle.dumps(Trap()))
    found = graded(tmp_path / "s", tmp_path / "results.json", "--time-limit", "100")
    assert found["score"] == 35
    assert "classification.pkl: " in next(test["output"] for test in found["tests"] if test["number"] == "7.1")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../../escape.py", "leads out of the folder"),
        ("/tmp/escape.py", "leads out of the folder"),
        ("C:\\escape.py", "leads out of the folder"),
        ("..\\escape.py", "leads out of the folder"),
    ],
)
def test_a_path_that_leads_out_is_refused(name, says, tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for path in SOLUTION.glob("*.py"):
            archive.write(path, f"questions/{path.name}")
        archive.writestr(name, "print('out')")
    found = graded(tmp_path / "s.zip", tmp_path / "results.json")
    assert found["score"] == 0
    assert says in found["output"]
    assert says in found["stderr"]
    assert "Traceback" not in found["stderr"]
    assert not list(tmp_path.rglob("escape*"))
