"""main.py with the plain model in place of ours: `python -m staff.bench.plain`, with main.py's own arguments."""

import sys

import main
from src import checkpoint
from src.codec import load_codec
from staff.bench.plain.model import PlainGPT2


def load(config, files, device, packed):
    """As `checkpoint.load`, but for the model."""
    model = PlainGPT2(config, checkpoint.read_weights(files.weights)).eval().requires_grad_(False)
    return model, load_codec(files.encoder, files.merges)


checkpoint.load = load
sys.exit(main.main())
