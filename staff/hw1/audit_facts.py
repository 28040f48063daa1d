"""What the audit has to know about homework 1 beyond its declaration."""

from functools import partial
from pathlib import Path

import numpy as np

from src.hw1.messages import TableQuestion
from src.hw1.oracle import TableModel
from staff.audit.subject import Channel, Facts
from staff.hw1 import power

_IDS = np.array([[0, 3, 4]])
_WRONG = """
log_p = torch.log_softmax(model(text)[0], dim=-1)[:, :-1].gather(-1, text[:, 1:, None])
return {value}
"""

FACTS = Facts(
    data=Path("data", "random.pkl"),  # a test of the classifier needs it
    answerer=partial(TableModel, 5, seed=1),
    questions=(TableQuestion(_IDS, None), TableQuestion(_IDS, _IDS[:, :2])),
    channel=Channel(
        part="6.4",
        # In the visible tests of `log_likelihood`, a text has one of these lengths; any other comes from a hidden test.
        is_hidden='hasattr(model, "_channel") and text.size(1) not in (4, 9, 30)',
        wrong=(
            _WRONG.replace("{value}", "log_p.mean().item()"),
            _WRONG.replace("{value}", "-log_p.sum().item()"),
        ),
        other_kind="return torch.zeros(2)",
    ),
    checks={"power/sample": partial(power.problems, seeds=25, gradings=100)},
)
