"""Grade the programming parts: what your functions earn, and what is wrong where they lose points.

python grader.py                        grade questions/
python grader.py 6.4                    one part
python grader.py --submission my.zip    grade a zip as Gradescope would, or a folder
python grader.py --html results.html    the same as a page for your browser, with charts
python grader.py --debug sample.py      run the tests of this file where breakpoint() and debuggers work
"""

from src.grading import dependencies

dependencies.check()  # before any other import: says in one line which Python or which package is missing

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for small arrays; idle threads of NumPy's would spin

from src.errors import run_command
from src.grading.command import grade
from src.hw1.parts import HOMEWORK

if __name__ == "__main__":
    run_command(lambda: grade(HOMEWORK, __doc__))
