"""What can go wrong when random letters are told from written text, and how each mistake shows."""

from collections.abc import Mapping
from dataclasses import dataclass

from src.grading.part_test import Mistake, Mistakes
from src.hw1.dataset import NEURIPS, RANDOM, SHAKESPEARE, Dataset
from src.hw1.hints.shared import first_that_applies

NOT_A_DECISION = Mistake(
    "not a decision",
    "this is neither True nor False; compare what `log_likelihood` returns with your threshold",
)
NOT_A_BOOL = Mistake("not a bool", "the decision may be right, but it is not a Python bool yet")

MODEL_NOT_ASKED = Mistake(
    "model not asked",
    "the decision does not follow the model; compare `log_likelihood` of the model and text that you are given with a "
    "number",
)


@dataclass(frozen=True)
class DecisionsCase:
    """The share of the texts of each kind that were called random."""

    random: float
    plays: float
    abstracts: float

    @property
    def most_written(self) -> float:
        """The larger share of the two kinds of written text."""
        return max(self.plays, self.abstracts)

    @property
    def most(self) -> float:
        """The largest share."""
        return max(self.random, self.most_written)

    @property
    def least(self) -> float:
        """The smallest share."""
        return min(self.random, self.plays, self.abstracts)


# Each variant says whether the mistake explains the shares.
DECISION_MISTAKES = (
    Mistake(
        "always True",
        "every text is called random; is your threshold on the scale of what `log_likelihood` returns?",
        (lambda case: case.least > 0.95,),
    ),
    Mistake(
        "always False",
        "no text is called random; is your threshold on the scale of what `log_likelihood` returns?",
        (lambda case: case.most < 0.05,),
    ),
    Mistake(
        "inverted",
        "it is the other way round: return True for random letters, and those are the unlikely texts",
        (lambda case: case.random < 0.2 and case.plays > 0.8 and case.abstracts > 0.8,),
    ),
    Mistake(
        "plays random",
        f"the {SHAKESPEARE.label} are taken for {RANDOM.label}; look at all three histograms and move the threshold "
        "to a place between these two",
        (lambda case: case.random > 0.9 and case.plays > 0.5 and case.abstracts < 0.5,),
    ),
    Mistake(
        "too high",
        f"written text is taken for {RANDOM.label}; look at the histograms and lower the threshold",
        (lambda case: case.random > 0.9,),
    ),
    Mistake(
        "guessed",
        "the decisions do not depend on the kind of text",
        (lambda case: case.most - case.least < 0.4,),
    ),
    Mistake(
        f"{NEURIPS.label} random",
        "the most likely texts are called random; which texts does the model find unlikely?",
        (lambda case: case.abstracts > 0.5 and max(case.random, case.plays) < 0.5,),
    ),
    Mistake(
        "too low",
        f"{RANDOM.label} are taken for written text; look at the histograms and raise the threshold",
        (lambda case: case.most_written < 0.1,),
    ),
)


def diagnose_decisions(shares: Mapping[Dataset, float]) -> Mistakes:
    """The mistake behind the share of each kind of text that was called random; empty if nothing known fits."""
    case = DecisionsCase(shares[RANDOM], shares[SHAKESPEARE], shares[NEURIPS])
    return first_that_applies(DECISION_MISTAKES, case)
