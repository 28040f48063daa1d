"""What a worker of homework 10 adds: the harness that calls a student's function and measures what it does."""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from src.errors import ProtocolError
from src.grading.homework import Homework
from src.grading.sandbox.messages import Reference
from src.grading.sandbox.protocol import Channel
from src.grading.sandbox.worker import WorkerPlugin
from src.hw10 import harness
from src.hw10.messages import AskProblems, SubmitProblems, Through


class HW10Worker(WorkerPlugin):
    """The modules of the harness are imported before student code runs, which cannot import them."""

    reads = (AskProblems,)

    def __init__(self) -> None:
        names = [module.name for module in pkgutil.iter_modules(harness.__path__)]
        self._modules: dict[str, ModuleType] = {
            name: importlib.import_module(f"{harness.__name__}.{name}") for name in names
        }
        torch.ones(1).add(1)  # at its first computation, PyTorch reads /proc/cpuinfo; a confined process cannot

    @property
    def homework(self) -> Homework:
        """The homework's declaration."""
        from src.hw10.parts import HOMEWORK

        return HOMEWORK

    def read(self, question: AskProblems, root: Path) -> SubmitProblems:
        """What is wrong in `root`/submit."""
        from src.hw10.reading import submit_problems

        return submit_problems(root)

    def resolve(self, reference: Reference, channel: Channel) -> Callable[..., Any]:
        """The function of the harness that `reference` names.

        Raises:
            ProtocolError: there is none.
        """
        if not isinstance(reference, Through):
            raise ProtocolError(f"nothing stands behind {type(reference).__name__}")
        module, _, function = reference.name.partition(".")
        return getattr(self._modules[module], function)  # type: ignore[no-any-return] # the harness has functions alone


def load(model_name: str) -> WorkerPlugin:
    """What a worker needs; this homework's tests make their networks themselves."""
    return HW10Worker()
