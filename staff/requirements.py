"""Write requirements.txt from the dependencies in pyproject.toml.

python -m staff.requirements
"""

import tomllib

from src.files import ROOT, write_file

REQUIREMENTS = ROOT / "requirements.txt"
_COMMENT = "# Generated from pyproject.toml, the one place where versions are set; do not edit."


def requirements_text() -> str:
    """The content of requirements.txt: every dependency of the homework, one a line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return "\n".join([_COMMENT, *project["dependencies"]]) + "\n"


def write() -> None:
    """Write requirements.txt."""
    write_file(REQUIREMENTS, requirements_text().encode())


if __name__ == "__main__":
    write()
