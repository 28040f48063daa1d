"""What requirements.txt asks for, and what is installed. Importing this ends the program where a package is missing."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
REMEDY = "run `make run`, then use .venv/bin/python; or pip install -r requirements.txt"


def required() -> dict[str, str]:
    """Package → the version that is asked for."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines() if REQUIREMENTS.exists() else []
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name.strip(): wanted.strip() for name, wanted in pairs}


def differing() -> list[str]:
    """Each package of another version, or missing, in a few words."""
    found = []
    for name, wanted in required().items():
        try:
            if version(name).split("+")[0] != wanted:
                found.append(f"{name} {version(name)} instead of {wanted}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return found


missing = [words.removeprefix("no ") for words in differing() if words.startswith("no ")]
if missing:
    sys.exit(f"error: {', '.join(missing)} missing in {sys.executable}; {REMEDY}")
