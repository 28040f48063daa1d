"""Check questions/ and submit/ and zip them: `bash make_submission.sh`, or python -m src.hw1.make_submission."""

from src.grading import dependencies

dependencies.check()  # before any other import, as in main.py

from src.errors import run_command
from src.grading import submission
from src.hw1.parts import HOMEWORK

if __name__ == "__main__":
    run_command(lambda: submission.command(HOMEWORK))
