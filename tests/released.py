"""What a release has made, used as students and Gradescope use it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

STATUSES, VISIBILITIES = {"passed", "failed"}, {"visible", "hidden", "after_due_date", "after_published"}


def released(out: Path, root: Path, *arguments: str) -> Path:
    """The folder `out` with what `make release` writes."""
    subprocess.run([sys.executable, "-m", "staff.release", "--out", out, *arguments], cwd=root, check=True)
    return out


def extracted(path: Path, into: Path) -> Path:
    """Unzip as a person's tool would: with the files' modes."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            os.chmod(archive.extract(info, into), (info.external_attr >> 16) & 0o777 or 0o644)
    return into


def on_gradescope_after_setup(package: Path, root: Path) -> Path:
    """Gradescope's folders in `root`, as after setup.sh; the virtual environment is this one."""
    extracted(package, root / "source")
    (root / "venv" / "bin").mkdir(parents=True)
    (root / "venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (root / "venv" / "bin" / "python").chmod(0o755)
    return root


def on_gradescope(root: Path, upload: Path) -> dict:
    extracted(upload, root / "submission")
    command = ["bash", root / "source" / "run_autograder"]
    subprocess.run(command, env=os.environ | {"AUTOGRADER_ROOT": str(root)}, check=True, cwd=root)
    return json.loads((root / "results" / "results.json").read_text())


def assert_documented_format(results: dict) -> None:
    """The keys, types and values of Gradescope's documentation."""
    assert isinstance(results["score"], (int, float))
    assert isinstance(results["execution_time"], (int, float))
    assert isinstance(results["output"], str)
    assert set(results) <= {
        "score",
        "execution_time",
        "output",
        "output_format",
        "visibility",
        "stdout_visibility",
        "tests",
        "extra_data",
    }
    for test in results["tests"]:
        assert set(test) <= {
            "score",
            "max_score",
            "status",
            "name",
            "number",
            "output",
            "visibility",
            "tags",
            "output_format",
        }
        assert test["status"] in STATUSES
        assert test.get("visibility", "visible") in VISIBILITIES
        assert 0 <= test["score"] <= test["max_score"]
        assert all(isinstance(test[key], str) for key in ("name", "number"))
