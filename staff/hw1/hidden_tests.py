"""The hidden tests of homework 1: the same checks as in src/hw1/checks/, on cases that students do not know.

The grader adds them where this file is present. Students see a hidden test's name once the grades are
published (`VISIBILITY`), and a hint that a visible test has given them, too; never its numbers.
"""

import json
from dataclasses import replace

from gradescope_utils.autograder_utils.decorators import hide_errors, number, visibility, weight

from src.files import ROOT
from src.hw1 import trials
from src.hw1.checks import classifier, horizon, likelihood, long_horizon, sampling, temperature
from src.hw1.checks.base import GPT2Test
from src.hw1.dataset import DATASETS, read_snippets
from src.hw1.oracle import LocalTableModel, TableModel, seed_from
from src.hw1.parts import LONG_HORIZON_POINTS

VISIBILITY = "after_published"  # or "visible", "hidden", "after_due_date"
HIDDEN = hide_errors("This test is hidden.")


class HiddenSamplingTest(GPT2Test):
    part = "6.3"
    seconds = 40.0  # thousands of single draws: code may print at each

    @number("6.3.3")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_draws(self) -> None:
        """Draws follow the right distribution for other prompts and another top k (hidden)"""
        sampling.check_draws(self, trials.trials(self.rng))
        every = trials.trial(self.rng, trials.SMALL, 1.0, repeats=1000, length=2)
        sampling.check_draws(self, [replace(every, k=0)])
        sampling.check_draws(self, trials.gpt2_size(self.rng))

    @number("6.3.4")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_feeding(self) -> None:
        """Continues from the new token, for a single prompt too, and with the bundled GPT-2 (hidden)"""
        for count, length, k in ((1, 7, 3), (4, 1, 0)):
            model = TableModel(int(self.rng.choice(trials.SMALL)), int(self.rng.integers(2**32)))
            sampling.check_feeding(self, model, trials.prompts_for(self.rng, model, count), length, k)
        sampling.check_draws(self, trials.trials(self.rng, alone=True))
        sampling.check_draws(self, trials.gpt2_size(self.rng, alone=True))
        texts = [
            "We show that a bound on the error of a linear predictor can be found from few samples.",
            "What ho, my lord, the morning comes too soon upon the tower and the sleeping guard of the king.",
        ]
        sampling.check_gpt2_samples(self, texts, tokens=12, length=16)


class HiddenLikelihoodTest(GPT2Test):
    part = "6.4"
    seconds = 100.0  # enough to run the model anew for each token of a text as long as its context

    @number("6.4.3")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_table(self) -> None:
        """Right for the shortest texts and for long ones (hidden)"""
        texts = [self.rng.integers(0, 13, n) for n in (2, 2, 3, 17, 64)]
        likelihood.check_values(self, TableModel(13, seed_from(self.rng)), texts)

    @number("6.4.4")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_gpt2(self) -> None:
        """Right for GPT-2, up to a text as long as its context (hidden)"""
        play = (ROOT / "data" / "plays.txt").read_text(encoding="utf-8")
        (ids,) = self.encode([play[5000:11000]])
        likelihood.check_values(self, self.gpt2, [ids[:2], ids[20:61], ids[: self.config.n_ctx]])


class HiddenClassifierTest(GPT2Test):
    part = "6.5"
    seconds = 60.0

    @number("6.5.3")
    @weight(3.5)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_snippets(self) -> None:
        """Tells snippets apart (hidden)"""
        labels = json.loads((ROOT / "staff" / "hw1" / "labels" / "snippets.json").read_text(encoding="utf-8"))
        labelled = list(zip(read_snippets(ROOT / "data" / "snippets.pkl"), labels, strict=True))
        of_kind = {dataset: [text for text, label in labelled if label == dataset.name] for dataset in DATASETS}
        classifier.earn_by_decisions(self, {dataset: texts[::7] for dataset, texts in of_kind.items()})


class HiddenTemperatureTest(GPT2Test):
    part = "6.6"

    @number("6.6.3")
    @weight(3.5)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_scaling(self) -> None:
        """Right at other temperatures, for a whole batch, without damage to the caller's logits (hidden)"""
        model, ids = TableModel(10, seed_from(self.rng)), self.rng.integers(0, 10, (4, 3))
        temperature.check_scaling(self, model, ids, 6, (0.25, 1.0, 1.7, 6.0), untouched=True)
        temperature.check_scaling(self, model, ids[:1], 0, (self.rng.uniform(0.5, 0.7),), untouched=True)
        trial = trials.trial(self.rng, trials.SMALL, 0.7, repeats=1000, length=5)
        temperature.check_sampling(self, [replace(trial, temperature=float(self.rng.uniform(1.4, 2.2)))])


class HiddenHorizonTest(GPT2Test):
    part = "6.7"

    @number("6.7.2")
    @weight(2.5)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_horizon(self) -> None:
        """Right at other temperatures and with the bundled GPT-2 (hidden)"""
        rng = self.rng
        model = TableModel(14, seed_from(rng))
        horizon.check_marginal(self, model, rng.integers(0, 14, (1, 5)), 6, (0.5, 1.0, rng.uniform(1.5, 3)))
        horizon.check_marginal(self, TableModel(8, seed_from(rng)), rng.integers(0, 8, (1, 1)), 3, (0.8,))
        local = LocalTableModel(11, seed_from(rng))
        horizon.check_sampling(self, local, horizon.telling_prompt(rng, local, 4, 0.4), 4, 0.4)
        (text,) = self.encode(["The regret of this algorithm is bounded by the square root of the"])
        horizon.check_marginal(self, self.gpt2, text[None], self.config.top_k, (0.9,))


class HiddenLossTest(GPT2Test):
    part = "7.1"

    @number("7.1.3")
    @weight(LONG_HORIZON_POINTS)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_value(self) -> None:
        """Right for other batches, a single text, and at T = 1 (hidden)"""
        for count in (30, 1):
            joint = long_horizon.a_joint(self.rng, vocab_size=3, length=int(self.rng.integers(2, 7)))
            long_horizon.check_loss(self, joint, count, (1.0, 0.7, self.rng.uniform(1.2, 4)))
        long_horizon.check_loss_gradient(self, joint)


class HiddenWeightsTest(GPT2Test):
    part = "7.2"

    @number("7.2.3")
    @weight(LONG_HORIZON_POINTS)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_value(self) -> None:
        """Right for other lengths, a single text, and horizons beyond its end (hidden)"""
        for count, length in ((5, 7), (3, 2), (1, 6)):
            joint = long_horizon.a_joint(self.rng, vocab_size=3, length=length)
            for ahead in (1, 2, length, length + 3):
                long_horizon.check_weights(self, joint, count, ahead, (0.7, self.rng.uniform(1.2, 4)))
        long_horizon.check_weights_gradient(self, joint)


class HiddenAcceptTest(GPT2Test):
    part = "7.3"

    @number("7.3.2")
    @weight(LONG_HORIZON_POINTS)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_value(self) -> None:
        """Right for other moves, a single one, and at T = 1 (hidden)"""
        for count in (200, 1):
            joint = long_horizon.a_joint(self.rng, vocab_size=5)
            long_horizon.check_accept(self, joint, count, (1.0, 0.7, self.rng.uniform(1.2, 4)))
