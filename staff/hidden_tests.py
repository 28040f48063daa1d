"""The hidden share of the tests in grader.py: the same checks on cases that students don't know.

grader.py adds them where this file is present. Students see a hidden test's name and hint once the grades are
published (`VISIBILITY`), never its numbers.
"""

import json

import numpy as np
from gradescope_utils.autograder_utils.decorators import hide_errors, number, partial_credit, visibility, weight

from src.artifacts import DATASETS
from src.config import ROOT
from src.dataset import read_snippets
from src.grading import checks
from src.grading.assignment import Part
from src.grading.oracle import TableModel

VISIBILITY = "after_published"  # or "visible", "hidden", "after_due_date"
HIDDEN = hide_errors("This test is hidden.")


class HiddenSampling(Part):
    part = "6.3"

    @number("6.3.3")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_draws(self):
        """Draws follow the right distribution for other prompts and another top k (hidden)"""
        checks.draws(self, TableModel(16, seed=7302), np.array([[1, 8, 8, 2], [15, 0, 4, 4], [9, 9, 9, 9]]), k=4)
        checks.draws(self, TableModel(9, seed=7301), np.array([[3]]), k=0)

    @number("6.3.4")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_feeding(self):
        """Goes on from the new token, for a single prompt too, and with the bundled GPT-2 (hidden)"""
        checks.feeding(self, TableModel(11, seed=7303), np.array([[4, 10, 1]]), length=9, k=3)
        checks.feeding(self, TableModel(11, seed=7304), np.array([[2], [7], [0], [2]]), length=1, k=0)
        checks.draws_alone(self, TableModel(10, seed=7305), np.array([[6, 1]]), k=4)
        texts = [
            "We show that a bound on the error of a linear predictor can be found from few samples.",
            "What ho, my lord, the morning comes too soon upon the tower and the sleeping guard of the king.",
        ]
        checks.sampling_gpt2(self, texts, tokens=12, length=16)


class HiddenLikelihood(Part):
    part = "6.4"
    seconds = 100.0  # enough to run the model anew for each token of a text as long as its context

    @number("6.4.3")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_table(self):
        """Right for the shortest texts and for long ones (hidden)"""
        texts = [np.random.default_rng(7401 + n).integers(0, 13, n) for n in (2, 2, 3, 17, 64)]
        checks.likelihoods(self, TableModel(13, seed=7402), texts)

    @number("6.4.4")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_gpt2(self):
        """Right for GPT-2, up to a text as long as its context (hidden)"""
        play = (ROOT / "data" / "plays.txt").read_text(encoding="utf-8")
        (ids,) = self.sandbox.encode([play[5000:11000]])
        checks.likelihoods(self, None, [ids[:2], ids[20:61], ids[: self.sandbox.config.n_ctx]])


class HiddenClassifier(Part):
    part = "6.5"
    seconds = 60.0

    @number("6.5.3")
    @partial_credit(3.5)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_snippets(self, set_score=None):
        """Tells snippets apart (hidden)"""
        labels = json.loads((ROOT / "staff" / "labels" / "snippets.json").read_text(encoding="utf-8"))
        snippets = read_snippets(ROOT / "data" / "snippets.pkl")
        kinds = dict(zip(("random", "plays", "papers"), DATASETS, strict=True))
        texts = {kind: [s for s, label in zip(snippets, labels, strict=True) if label == kinds[kind]] for kind in kinds}
        texts = {kind: of_kind[::7] for kind, of_kind in texts.items()}
        set_score(round(3.5 * checks.decisions(self, texts), 2))


class HiddenTemperature(Part):
    part = "6.6"

    @number("6.6.3")
    @weight(3.5)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_scaling(self):
        """Right at other temperatures, for a whole batch, without damage to the caller's logits (hidden)"""
        ids = np.array([[1, 2, 3], [9, 0, 9], [4, 4, 4], [0, 7, 1]])
        checks.scaling(self, TableModel(10, seed=7601), ids, 6, (0.25, 1.0, 1.7, 6.0), untouched=True)
        checks.scaling(self, TableModel(10, seed=7602), ids[:1], 0, (0.6,), untouched=True)
        checks.sampling_at_temperature(self, TableModel(9, seed=7603), ids[:2] % 9, 5, 0.4)


class HiddenHorizon(Part):
    part = "6.7"

    @number("6.7.2")
    @weight(2.5)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_horizon(self):
        """Right at other temperatures and with the bundled GPT-2 (hidden)"""
        checks.looking_ahead(self, TableModel(14, seed=7701), np.array([[3, 3, 12, 5, 8]]), 6, (0.5, 1.0, 2.2))
        checks.looking_ahead(self, TableModel(8, seed=7702), np.array([[6]]), 3, (0.8,))
        checks.sampling_two_ahead(self, TableModel(8, seed=7750), np.array([[5, 2]]), 4, 0.3)
        (ids,) = self.sandbox.encode(["The regret of this algorithm is bounded by the square root of the"])
        checks.looking_ahead(self, None, ids[None], self.sandbox.config.top_k, (0.9,))


PARTS = (HiddenSampling, HiddenLikelihood, HiddenClassifier, HiddenTemperature, HiddenHorizon)
