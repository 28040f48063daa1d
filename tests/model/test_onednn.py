"""With oneDNN, the model is the same, only faster. The comparison with `transformers` is in test_gpt2.py."""

import copy
import dataclasses
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from src.files import ROOT
from src.hw1 import worker
from src.model import checkpoint
from src.model.config import BUNDLED, model_config
from src.model.onednn import compute_with_onednn, is_supported

TOLERANCE = 1e-4  # as in test_gpt2.py
LAYERS = (("attn", "c_attn"), ("attn", "c_proj"), ("mlp", "c_fc"), ("mlp", "c_proj"))

needs_kernels = pytest.mark.skipif(not is_supported(torch.float32), reason="oneDNN has no fast kernels here")


@pytest.fixture
def both():
    """The bundled model without and with oneDNN."""
    config = model_config(BUNDLED)
    files = checkpoint.locate(config)
    return [checkpoint.load(config, files, fast=onednn)[0] for onednn in (False, True)]


@needs_kernels
@torch.inference_mode()
@pytest.mark.parametrize("rows", [(1, 1), (5, 1), (1, 37), (3, 64)])
def test_the_logits_are_the_same(both, rows):
    ids = torch.randint(6144, rows)
    (expected, _), (logits, _) = (model(ids) for model in both)
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)


@needs_kernels
def test_every_block_uses_reordered_weights(both):
    layers = [getattr(getattr(block, part), name) for block in both[1].transformer.h for part, name in LAYERS]
    assert all(layer.weight.is_mkldnn for layer in layers)


@needs_kernels
def test_only_the_readout_has_a_copy(both):
    without, with_onednn = (sum(parameter.numel() for parameter in model.parameters()) for model in both)
    embedding = both[0].transformer.wte.weight
    assert both[1].readout_head.decoder.weight.is_mkldnn
    assert with_onednn == without + embedding.numel()
    assert torch.equal(both[1].transformer.wte.weight, embedding)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_of_the_file_are_the_embedding(dtype):
    """With oneDNN, rows are looked up in the file's type and converted; without, all of the embedding is."""
    config = dataclasses.replace(model_config(BUNDLED), dtype=dtype)
    files, ids = checkpoint.locate(config), torch.randint(6144, (2, 9))
    expected, rows = (checkpoint.load(config, files, fast=o)[0].transformer.wte(ids) for o in (False, True))
    assert rows.dtype == getattr(torch, dtype)
    assert torch.equal(rows, expected)


@needs_kernels
@torch.inference_mode()
def test_a_model_with_onednn_can_be_copied(both):
    ids = torch.randint(6144, (1, 9))
    assert torch.equal(copy.deepcopy(both[1])(ids)[0], both[1](ids)[0])


@torch.inference_mode()
def test_an_unsupported_processor_gets_the_plain_model(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO AVX")
    config = model_config(BUNDLED)
    model, _ = checkpoint.load(config, checkpoint.locate(config), fast=True)
    assert not model.transformer.h[0].mlp.c_fc.weight.is_mkldnn
    assert model(torch.zeros(1, 3, dtype=torch.long))[0].shape == (1, 3, 6144)


ON_AVX2 = f"""
import torch
from src.model import checkpoint
from src.model.config import BUNDLED, model_config
config = model_config(BUNDLED)
models = [checkpoint.load(config, checkpoint.locate(config), fast=onednn)[0] for onednn in (False, True)]
ids = torch.arange(50).view(2, 25)
assert torch.backends.cpu.get_cpu_capability() == "AVX2"
assert models[1].transformer.h[0].mlp.c_fc.weight.is_mkldnn
with torch.inference_mode():
    torch.testing.assert_close(models[1](ids)[0], models[0](ids)[0], atol={TOLERANCE}, rtol={TOLERANCE})
"""


@needs_kernels
def test_a_processor_with_avx2_only_is_supported():
    older = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    process = subprocess.run([sys.executable, "-c", ON_AVX2], cwd=ROOT, env=older, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.fixture
def in_place():
    """The bundled model as it is, and one that keeps its modules and weights."""
    config = model_config(BUNDLED)
    models = [checkpoint.load(config, checkpoint.locate(config))[0] for _ in range(2)]
    compute_with_onednn(models[1])
    return models


@needs_kernels
def test_the_graders_workers_use_it():
    assert type(worker.load(BUNDLED)._model.readout_head.decoder) is not nn.Linear


@needs_kernels
@torch.inference_mode()
@pytest.mark.parametrize("rows", [(1, 1), (2, 4), (1, 9), (1, 37), (3, 64)])
def test_the_logits_are_the_same_in_place(in_place, rows):
    ids = torch.randint(6144, rows)
    (expected, _), (logits, _) = (model(ids) for model in in_place)
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)


@needs_kernels
def test_in_place_all_weights_stay(in_place):
    without, with_onednn = (dict(model.named_parameters()) for model in in_place)
    assert without.keys() == with_onednn.keys()
    assert all(torch.equal(without[name], with_onednn[name]) for name in without)


@needs_kernels
@torch.inference_mode()
def test_in_place_a_changed_weight_counts(in_place):
    ids, model = torch.randint(6144, (1, 9)), in_place[1]
    before = model(ids)[0]
    model.transformer.h[0].attn.c_attn.weight.mul_(1.1)
    assert not torch.equal(model(ids)[0], before)


@needs_kernels
def test_in_place_gradients_are_the_same(in_place):
    ids, found = torch.randint(6144, (1, 9)), []
    for model in in_place:
        model.requires_grad_()
        model(ids)[0].logsumexp(-1).sum().backward()
        found.append(model.transformer.h[0].attn.c_attn.weight.grad)
    torch.testing.assert_close(found[1], found[0])


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_in_place_a_copy_of_another_type_works(in_place, dtype):
    ids = torch.randint(6144, (1, 9))
    expected, logits = (copy.deepcopy(model).to(dtype)(ids)[0] for model in in_place)
    assert torch.equal(logits, expected)
