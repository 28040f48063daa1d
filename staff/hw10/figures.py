"""Write what the experiments gave, with the reference answers, into docs/hw10-experiments.md, and draw its digits.

    make run HOMEWORK=hw10
    python -m staff.hw10.figures

The tables stand between `<!-- NAME -->` and `<!-- /NAME -->`; the times beside them are written by hand.
"""

import csv
import io
from collections.abc import Mapping, Sequence

import matplotlib.image
import numpy as np
from matplotlib.figure import Figure

from src.errors import UserError, run_command
from src.files import ROOT, shown, write_file
from src.hw10.parts import HOMEWORK
from src.hw10.plots import png
from staff.marked import rewrite

DOCUMENT, DIGITS = ROOT / "docs" / "hw10-experiments.md", ROOT / "docs" / "hw10-digits.png"
SUBMIT = HOMEWORK.home / "submit"
CELL, ROWS = 60, 4  # pixels of a digit in a grid, with its border; rows that are shown of each
MODELS = {"vae": "VAE", "gan": "GAN", "ddpm": "diffusion"}

Row = Mapping[str, str]


def rows_of(name: str) -> list[Row]:
    """The rows of a table in submit/.

    Raises:
        UserError: it is not there.
    """
    path = SUBMIT / name
    if not path.exists():
        raise UserError(f"{shown(path)}: is missing; run: make run HOMEWORK=hw10")
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, a line each; numbers are at the right."""
    return ["| " + " | ".join(line) + " |" for line in (header, ["---", *["---:"] * (len(header) - 1)], *rows)]


def with_error(mean: str, error: str, digits: int = 1) -> str:
    """A mean with its standard error; alone where there is none."""
    return f"{round(float(mean), digits) + 0.0:.{digits}f}" + (
        f" ± {float(error):.{digits}f}" if error not in ("", "nan", "0") else ""
    )


def percent(share: str) -> str:
    """A share of 1 in percent."""
    return f"{100 * float(share):.1f} %"


def vae() -> list[str]:
    """The three values on held-out images."""
    found = rows_of("vae.csv")
    rows = [[each["held-out images"], with_error(each["mean"], each["standard error"])] for each in found]
    return table([f"nats per held-out image, {found[0]['seeds']} seeds", "mean ± standard error"], rows)


def drawn() -> list[str]:
    """How good the digits of GAN and diffusion are, in the eyes of a classifier of real ones."""
    rows = []
    for name in ("gan", "ddpm"):
        for each in rows_of(f"{name}.csv"):
            counts = [int(each[f"digit {digit}"]) for digit in range(10)]
            few, many = str(min(counts)), str(max(counts))
            title = f"{MODELS[name]}, {each['digits']}"
            rows.append([title, percent(each["sure"]), f"{few} to {many}", f"{float(each['distance']):.1f}"])
    return table(["200 digits", "clearly one digit", "of each digit", "distance to held-out ones"], rows)


def continual() -> list[str]:
    """Final accuracy and forgetting of every method."""
    rows = []
    for name, setting, symbol in (("ewc", "lambda", "λ = "), ("rehearsal", "capacity", "")):
        for each in rows_of(f"continual_{name}.csv"):
            if name == "rehearsal" and each["method"] == "naive":
                continue  # it is the same as beside EWC
            unit = "" if name == "ewc" else " examples"
            method = each["method"] + (f", {symbol}{int(float(each[setting])):,}{unit}" if each[setting] else "")
            accuracy = with_error(each["final_accuracy"], each["final_accuracy_error"])
            forgotten = with_error(each["forgetting"], each["forgetting_error"])
            rows.append([f"{each['network']}, {method}", accuracy, forgotten])
    return table(["three tasks in turn", "mean final accuracy, %", "forgetting, points"], rows)


def prompting() -> list[str]:
    """Accuracy and confidence by the number of examples in the prompt."""
    rows = []
    for each in rows_of("prompting.csv"):
        accuracy = with_error(*(str(100 * float(each[name])) for name in ("accuracy", "standard_error")))
        sure = [f"{float(each[f'confidence_when_{name}']):.2f}" for name in ("right", "wrong")]
        noun = "example" if each["shots"] == "1" else "examples"
        rows.append([f"{each['shots']} {noun}, {each['labels']} labels", accuracy, *sure])
    return table(["prompt", "right, %", "confidence when right", "when wrong"], rows)


def soft_prompt() -> list[str]:
    """How often each prompt gives the right plural."""
    rows = [[each["prompt"], f"{each['right']} of {each['of']}"] for each in rows_of("soft_prompt.csv")]
    return table(["prompt", "right plurals"], rows)


def digits() -> bytes:
    """The first rows of the three grids, one below the other, as a PNG file."""
    figure = Figure(figsize=(9.0, 6.3), layout="constrained")
    for name, axes in zip(MODELS, figure.subplots(len(MODELS), 1), strict=True):
        pixels = np.asarray(matplotlib.image.imread(SUBMIT / f"{name}.png"))[: ROWS * CELL + 4]
        axes.imshow(pixels)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(MODELS[name], fontsize=12)
        axes.spines[:].set_visible(False)
    return png(figure)


def main() -> int:
    for write in (vae, drawn, continual, prompting, soft_prompt):
        rewrite(DOCUMENT, write.__name__.replace("_", "-"), write())
    write_file(DIGITS, digits())
    print(f"wrote the tables of {shown(DOCUMENT)}, and {shown(DIGITS)}")
    return 0


if __name__ == "__main__":
    run_command(main)
