"""The one kind of error that is meant for the person at the keyboard."""


class UserError(ValueError):
    """Something that the user can mend: one line that names the file, the value and the remedy.

    `main.py` and the other commands print that line and exit; they never show a traceback for it.
    """
