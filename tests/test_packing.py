"""Packed weights: the same model, only faster. The parity with `transformers` is in test_gpt2.py."""

import copy
import os
import subprocess
import sys

import pytest
import torch

from src import checkpoint, packing
from src.config import ROOT, model_config

TOLERANCE = 1e-4  # as in test_gpt2.py

needs_kernels = pytest.mark.skipif(
    not packing.can_pack(torch.float32), reason="this processor has no kernels for packed weights"
)


@pytest.fixture
def both():
    """The bundled model as it is written, and packed."""
    config = model_config("gpt2-mini")
    files = checkpoint.locate(config)
    return [checkpoint.load(config, files, packed=packed)[0] for packed in (False, True)]


@needs_kernels
@torch.inference_mode()
@pytest.mark.parametrize("rows", [(1, 1), (5, 1), (1, 37), (3, 64)])
def test_a_packed_model_answers_the_same(both, rows):
    ids = torch.randint(6144, rows)
    (expected, _), (logits, _) = (model(ids) for model in both)
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)


@needs_kernels
def test_packing_changes_neither_the_tie_nor_the_number_of_parameters(both):
    _, model = both
    assert model.readout_head.decoder.weight is model.transformer.wte.weight
    counts = [sum(parameter.numel() for parameter in m.parameters()) for m in both]
    assert counts[0] == counts[1]
    assert all(block.mlp.c_fc.weight.is_mkldnn for block in model.transformer.h)


@needs_kernels
@torch.inference_mode()
def test_a_packed_model_can_be_copied(both):
    _, model = both
    ids = torch.randint(6144, (1, 9))
    assert torch.equal(copy.deepcopy(model)(ids)[0], model(ids)[0])


@torch.inference_mode()
def test_a_processor_without_the_kernels_gets_the_model_as_it_is_written(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO AVX")
    config = model_config("gpt2-mini")
    model, _ = checkpoint.load(config, checkpoint.locate(config), packed=True)
    assert not model.transformer.h[0].mlp.c_fc.weight.is_mkldnn
    assert model(torch.zeros(1, 3, dtype=torch.long))[0].shape == (1, 3, 6144)


OLDER = f"""
import torch
from src import checkpoint
from src.config import model_config
config = model_config("gpt2-mini")
models = [checkpoint.load(config, checkpoint.locate(config), packed=packed)[0] for packed in (False, True)]
ids = torch.arange(50).view(2, 25)
assert torch.backends.cpu.get_cpu_capability() == "AVX2"
assert models[1].transformer.h[0].mlp.c_fc.weight.is_mkldnn
with torch.inference_mode():
    torch.testing.assert_close(models[1](ids)[0], models[0](ids)[0], atol={TOLERANCE}, rtol={TOLERANCE})
"""


@needs_kernels
def test_an_older_processor_has_the_kernels_too():
    older = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    process = subprocess.run([sys.executable, "-c", OLDER], cwd=ROOT, env=older, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
