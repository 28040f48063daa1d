"""What a model thinks of a text, on a page in the browser: `python -m src.playground`, or `make play`.

In a notebook, `show` displays the tokens of a text as the page does, without the server.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from src.playground.notebook import TokenView


def show(text: str, model: str = "bundled", questions: "Path | str" = "questions") -> "TokenView":
    """The tokens of `text`, coloured by rank, with their log-probabilities; Jupyter displays the result.

    Args:
        model: as after --model
        questions: the folder of the `log_likelihood` whose value stands beside the total

    Raises:
        UserError: there is no such model, or it cannot read this text.
    """
    from src.playground.notebook import view  # PyTorch takes a second to import

    return view(text, model, questions)
