"""main.py with the plain model instead of ours: `python -m staff.bench.plain`, with main.py's own arguments."""

import main
from src.errors import run_command
from src.model import checkpoint
from src.model.codec import Codec, load_codec
from src.model.config import Config
from staff.bench.plain.model import PlainGPT2


def load(config: Config, files: checkpoint.Files, device: str, fast: bool) -> tuple[PlainGPT2, Codec]:
    """The plain model and its codec, on the CPU whatever `device` is; `checkpoint.load` returns the same of ours."""
    model = PlainGPT2(config, checkpoint.read_weights(files.weights)).eval().requires_grad_(False)
    return model, load_codec(files.encoder, files.merges)


checkpoint.load = load
run_command(main.main)
