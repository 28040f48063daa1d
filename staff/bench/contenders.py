"""Who is compared with our model: started, checked that it computes the same, and kept going block by block."""

import math
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from src.model import memory, threads
from src.model.config import Config
from staff.bench.implementations import CTranslate2, DrawnAlike, NotCompiled, Ours, Plain, Products, Transformers
from staff.bench.own_process import Block, ContenderFailed, OwnProcess
from staff.bench.with_llama import Llama, Llama16
from staff.bench.with_onnxruntime import ONNXRuntime
from staff.bench.with_openvino import OpenVINO

OURS, PRODUCTS = "ours", "only the products, by oneDNN"
LLAMA_16 = "llama.cpp, int8, for 16"
DRAWN_ALIKE, NOT_COMPILED = "ours, drawn by NumPy", "ours, without g++"
CONTENDERS: dict[str, tuple[type, str]] = {
    OURS: (Ours, "float32"),
    "llama.cpp": (Llama, "float32"),
    "OpenVINO": (OpenVINO, "float32"),
    "CTranslate2": (CTranslate2, "float32"),
    "ONNX Runtime": (ONNXRuntime, "float32"),
    "transformers": (Transformers, "float32"),
    "plain": (Plain, "float32"),
    DRAWN_ALIKE: (DrawnAlike, "float32"),
    NOT_COMPILED: (NotCompiled, "float32"),
    "ours, bfloat16": (Ours, "bfloat16"),
    "ours, int8": (Ours, "int8"),
    "llama.cpp, bfloat16": (Llama, "bfloat16"),
    "OpenVINO, bfloat16": (OpenVINO, "bfloat16"),
    "llama.cpp, int8": (Llama, "int8"),
    LLAMA_16: (Llama16, "int8"),
    "OpenVINO, int8": (OpenVINO, "int8"),
    "CTranslate2, int8": (CTranslate2, "int8"),
    "ONNX Runtime, int8": (ONNXRuntime, "int8"),
    PRODUCTS: (Products, "float32"),
}
SAME = 1e-3  # float32 log-probabilities that differ by no more are the same
# Up to here, something inside was not in float32. llama.cpp looks GELU up in a float16 table and attends in float16,
# which makes 0.002; such a GELU alone changes our own by 0.001. Beyond, it is not the same model, and is not timed.
CLOSE = 1e-2
MOST_PROMPTS = {LLAMA_16: 16}
ONE_PROMPT = {"plain"}  # these decode several prompts one after the other


@dataclass
class Contender:
    """An implementation in its own process, or why there is none."""

    label: str
    process: OwnProcess | None = None
    error: str = ""
    computes: str = ""  # how far its next-token distribution is from ours

    def start(self, prompts: Tensor, block: int, blocks: int) -> None:
        """Have `prompts` continued from the next block on."""
        if self.process:
            self.process.start(prompts, block, blocks)

    def block(self) -> Block:
        """The times of the next block; nan once anything has failed."""
        if not self.process:
            return Block(math.nan, math.nan)
        try:
            return self.process.block()
        except ContenderFailed as error:
            self.drop(str(error))
            return Block(math.nan, math.nan)

    def drop(self, error: str) -> None:
        """Go on without it. Without ours, there is nothing to compare with."""
        self.close()
        self.process, self.error = None, error
        if self.label == OURS:
            raise RuntimeError(f"our own model failed: {error}")

    def close(self) -> None:
        """End its process."""
        if self.process:
            self.process.close()


def start_all(config: Config, name: str, labels: Collection[str] = tuple(CONTENDERS)) -> list[Contender]:
    """The contenders of these labels, each with the model `name`, two at a time; ours comes first."""

    def start(label: str) -> Contender:
        implementation, dtype = CONTENDERS[label]
        try:
            return Contender(label, OwnProcess(implementation, name, dtype, environment=environment_of(implementation)))
        except ContenderFailed as error:
            return Contender(label, error=str(error))

    with ThreadPoolExecutor(2) as pool:
        contenders = list(pool.map(start, labels))
    if contenders[0].error:
        raise RuntimeError(f"our own model failed: {contenders[0].error}")
    _compare_logits(contenders, torch.randint(config.vocab_size, (2, 100)))
    return contenders


def environment_of(implementation: type) -> dict[str, str]:
    """What main.py sets for our model. The others run with their own defaults."""
    chosen: dict[str, str] = {}
    if issubclass(implementation, (Ours, DrawnAlike)):
        environment = dict(os.environ)
        threads.share_processors(environment)
        memory.use_large_pages(environment)
        chosen = {name: value for name, value in environment.items() if os.environ.get(name) != value}
    return chosen


def _compare_logits(contenders: list[Contender], prompts: Tensor) -> None:
    """Say how far each next-token distribution is from ours, and drop those that should be the same and are not."""
    expected: Tensor | None = None
    for contender in contenders:
        if not contender.process or contender.label == PRODUCTS:
            continue
        try:
            got = torch.as_tensor(contender.process.logits(prompts)).double().log_softmax(-1)
        except ContenderFailed as error:
            contender.drop(str(error))
            continue
        if expected is None:
            expected = got
            continue
        largest = (got - expected).abs().max().item()
        distance = ((got.exp() - expected.exp()).abs().sum(-1) / 2).max().item()
        if CONTENDERS[contender.label][1] != "float32":
            contender.computes = f"total variation {distance:.4f}"
        elif largest < SAME:
            contender.computes = f"same: log-probabilities within {largest:.0e}"
        elif largest < CLOSE:
            contender.computes = f"not quite float32: log-probabilities within {largest:.0e}"
        else:
            contender.drop(f"its log-probabilities differ from ours by {largest:.3g}")
