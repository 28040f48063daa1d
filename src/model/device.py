"""Where PyTorch computes."""

import torch

from src.errors import ConfigError


def choose_device(wanted: str) -> str:
    """The device that --device names; "auto" means a GPU where there is one.

    Raises:
        ConfigError: this machine does not have that device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[wanted]:
        raise ConfigError(f"--device {wanted}: PyTorch finds no such device here; use --device auto")
    return wanted
