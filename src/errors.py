"""The one kind of error that is meant for the person at the keyboard."""


class UserError(ValueError):
    """Something that the user can mend: one line that names the file, the value and the remedy.

    `main.py` and the other commands print that line and exit; they never show a traceback for it.
    """


def printable(text: str) -> str:
    """The first 5000 characters of `text`, without what could steer a terminal or can't be written."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text[:5000])
