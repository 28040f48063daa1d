"""What `main.py --question 7` leaves: a picture of what the student's functions achieve, and the numbers in it."""

import torch

from src.hw1.long_horizon import fine_tune, study
from src.hw1.run import Run


def report(run: Run) -> bytes:
    """The picture, as a PNG; prints the numbers as they come.

    Raises:
        StudentCodeError: a function returned the wrong kind of value.
        BaseException: whatever the student's functions raise.
    """
    with torch.inference_mode(False), torch.enable_grad():  # q is trained
        found = study.study(run)
        print("\n".join(study.lines_of(found)))
        measured = fine_tune.compare(run) if run.fine_tune else []
    if measured:
        print("\n".join(fine_tune.lines_of(measured)))
    from src.hw1.long_horizon.picture import picture  # matplotlib is slow to import

    return picture(found, measured)
