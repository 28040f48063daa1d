"""Draw docs/temperature.png, the picture in README.md: the next token's probabilities at three temperatures.

    python -m staff.pictures

The probabilities are the bundled model's own, over the top k tokens of its config.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from src.errors import UserError
from src.files import ROOT, write_file
from src.model.checkpoint import load, locate
from src.model.config import BUNDLED, model_config

PROMPT = "O, my"
SHOWN = 9  # tokens with a bar of their own; the others share the last one
TEMPERATURES = {0.5: ("#30638e", "cautious"), 1.0: ("#c98a1b", "as trained"), 2.0: ("#d1495b", "daring")}
DARK, SOFT, GREY = "#222222", "#5f6770", "#c9ced3"


def most_likely(prompt: str) -> tuple[list[str], np.ndarray]:
    """The tokens that the bundled model may draw after `prompt`, the likeliest first, and their logits (top_k,).

    Raises:
        UserError: the model cannot be loaded.
    """
    config = model_config(BUNDLED)
    model, codec = load(config, locate(config))
    with torch.inference_mode():
        logits, _ = model(codec.encode(prompt))
    values, ids = logits[0, -1].double().topk(config.top_k)
    return [codec.decode(token) for token in ids.split(1)], values.numpy()


def scaled(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N,) of the tokens with these `logits` (N,) at a temperature."""
    weights = np.exp((logits - logits.max()) / temperature)
    return np.asarray(weights / weights.sum())


def picture(prompt: str, tokens: Sequence[str], logits: np.ndarray) -> bytes:
    """The probabilities of `tokens` with these `logits` (N,) after `prompt`, a panel for each temperature, as a PNG."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    labels = [*(token.strip() for token in tokens[:SHOWN]), f"{len(tokens) - SHOWN} others"]
    panels = figure.subplots(1, len(TEMPERATURES), sharex=True, sharey=True)
    for axes, (temperature, (colour, note)) in zip(panels, TEMPERATURES.items(), strict=True):
        each = scaled(logits, temperature)
        colours = [colour] * SHOWN + [GREY]
        bars = axes.barh(labels, [*each[:SHOWN], each[SHOWN:].sum()], height=0.76, color=colours)
        axes.bar_label(bars, fmt=percent, padding=4, color=SOFT, size=10)
        title = axes.set_title(f"T = {temperature:g}", loc="left", weight="bold", color=colour, size=14)
        axes.annotate(note, (1, 0), (9, 3.5), xycoords=title, textcoords="offset points", color=SOFT, size=11)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.spines["left"].set_color(GREY)
        axes.tick_params(left=False, bottom=False, labelbottom=False, labelcolor=DARK, labelsize=11)
    panels[0].set_xlim(0, 1)
    panels[0].margins(y=0.02)
    panels[0].invert_yaxis()
    figure.suptitle(f"“{prompt} …”: which token comes next?", x=0.012, ha="left", size=15, weight="bold", color=DARK)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def percent(share: float) -> str:
    """A probability, for the end of its bar."""
    return f"{share:.0%}" if share >= 0.005 else "<1%"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "temperature.png", help="(%(default)s)")
    args = parser.parse_args()
    write_file(args.out, picture(PROMPT, *most_likely(PROMPT)))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
