"""Check questions/ and submit/ and zip them: `bash make_submission.sh`, or python -m src.hw10.make_submission."""

if not __package__:  # it was started as a file, so Python does not find `src`
    raise SystemExit("run this from the folder of the homework: python -m src.hw10.make_submission")

from src.grading import dependencies

dependencies.check()  # before any other import, as in experiment.py

from src.errors import run_command
from src.grading.packing import pack
from src.hw10.parts import HOMEWORK

if __name__ == "__main__":
    run_command(lambda: pack(HOMEWORK))
