"""Kinds of files that parts leave in submit/, and what can be wrong with them."""

from collections.abc import Callable
from pathlib import Path

from src.errors import UserError
from src.grading.homework import Artifact

_PNG_BEGIN, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def artifact(name: str, problem: Callable[[Path], str | None]) -> Artifact:
    """The file called `name`, checked by `problem`; it may raise what reading a damaged file raises."""

    def problem_or_error(path: Path) -> str | None:
        try:
            return problem(path)
        except (UserError, UnicodeDecodeError):
            return "is damaged"
        except OSError as error:
            return f"cannot be read ({error.strerror})"

    return Artifact(name, problem_or_error)


def picture(name: str) -> Artifact:
    """A PNG file."""

    def problem(path: Path) -> str | None:
        content = path.read_bytes()
        return None if content.startswith(_PNG_BEGIN) and content.endswith(_PNG_END) else "is not a PNG file"

    return artifact(name, problem)
