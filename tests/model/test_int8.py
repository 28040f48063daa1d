"""dtype: int8 rounds the weights, little enough, and computes with what they are after that."""

import copy
import dataclasses
import sys

import pytest
import torch
from torch.nn import functional

from src.errors import ConfigError
from src.files import ROOT
from src.hw1.dataset import DATASETS, read_pieces
from src.model import checkpoint, compiled
from src.model.config import BUNDLED, load_config, model_config
from src.model.int8 import GROUP, Int8Linear

WITH_COMPILER, WITHOUT = "with g++", "without"
NATS = 0.5  # that a text's log-likelihood may move by


def layer(n_out=100, n_in=192):
    torch.manual_seed(n_out)
    weight, bias = torch.randn(n_out, n_in), torch.randn(n_out)
    return weight, bias, Int8Linear(weight, bias)


def load(dtype):
    config = dataclasses.replace(model_config(BUNDLED), dtype=dtype)
    return checkpoint.load(config, checkpoint.locate(config), fast=True)


@pytest.fixture(params=[WITH_COMPILER, WITHOUT])
def model(request, monkeypatch):
    """The bundled model in int8."""
    if request.param == WITHOUT:
        monkeypatch.setattr(compiled, "compile_step", lambda folder: None)
    model, _ = load("int8")
    if request.param == WITH_COMPILER and not hasattr(model, "step"):
        pytest.skip("the step cannot be compiled here")
    return model


@pytest.mark.parametrize("n_out", [1, 63, 64, 65, 200])
def test_a_weight_moves_by_half_a_step_at_most(n_out):
    weight, _, rounded = layer(n_out)
    moved = (rounded.rounded_weight() - weight).view(n_out, -1, GROUP).abs().amax(dim=2)
    steps = weight.view(n_out, -1, GROUP).abs().amax(dim=2) / 127
    assert rounded.rounded_weight().shape == weight.shape
    assert (moved <= steps / 2 * 1.001).all()
    assert (moved > 0).any()


def test_weights_of_zero_stay_zero():
    rounded = Int8Linear(torch.zeros(64, GROUP), None)
    assert torch.equal(rounded(torch.ones(2, GROUP)), torch.zeros(2, 64))


def test_the_output_is_that_of_the_rounded_weight():
    _, bias, rounded = layer()
    x = torch.randn(2, 3, 192)
    torch.testing.assert_close(rounded(x), functional.linear(x, rounded.rounded_weight(), bias))


def test_a_weight_takes_a_byte_and_a_sixteenth():
    _, _, rounded = layer(128)
    stored = sum(buffer.nbytes for name, buffer in rounded.named_buffers() if name != "bias")
    assert stored == 128 * 192 * (1 + 4 / GROUP)


@pytest.fixture
def compiled_model():
    model, _ = load("int8")
    if not hasattr(model, "step"):
        pytest.skip("the step cannot be compiled here")
    return model


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 5), (1, 7), (1, 12), (1, 100), (2, 0), ()])
def test_compiled_layers_compute_the_same(compiled_model, shape):
    for of_block in (compiled_model.transformer.h[1].mlp.c_proj, compiled_model.readout_head.decoder):
        x = torch.randn(*shape, of_block.n_in)
        torch.testing.assert_close(of_block(x), Int8Linear.forward(of_block, x), atol=1e-4, rtol=1e-4)


def test_compiled_layers_leave_the_rest_to_pytorch(compiled_model):
    of_block = compiled_model.readout_head.decoder
    assert of_block(torch.zeros(1, of_block.n_in, requires_grad=True)).requires_grad
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        of_block(torch.zeros(1, 1))


@torch.inference_mode()
def test_the_step_keeps_the_numbers_that_it_reads(compiled_model):
    kept, ids = len(compiled_model.step._tensors), torch.zeros(1, 1, dtype=torch.long)
    _, past = compiled_model(ids)
    expected, _ = compiled_model(ids, past=past)
    compiled_model.double()  # scales move
    assert torch.equal(compiled_model(ids, past=past)[0], expected)
    assert len(compiled_model.step._tensors) == kept


@torch.inference_mode()
@pytest.mark.parametrize("batch", [1, 5, 13])
def test_steps_equal_a_call_with_the_whole_text(model, batch):
    text = torch.randint(6144, (batch, 12))
    _, past = model(text[:, :10])
    steps = []
    for t in (10, 11):
        logits, past = model(text[:, t : t + 1], past=past)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), model(text)[0][:, 10:], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_log_likelihoods_and_distributions_move_little(model):
    exact, codec = load("float32")
    distances = []
    for text in (text for dataset in DATASETS for text in read_pieces(ROOT / "data" / dataset.file)[::25]):
        ids = codec.encode(text)
        p, q = (m(ids)[0][0].log_softmax(dim=-1) for m in (exact, model))
        likelihoods = [table[:-1].gather(1, ids[0, 1:, None]).sum() for table in (p, q)]
        assert abs(likelihoods[0] - likelihoods[1]) < NATS, text
        distances.append((p.exp() - q.exp()).abs().sum(dim=-1) / 2)
    assert 0 < torch.cat(distances).mean() < 0.02


@torch.inference_mode()
def test_the_embeddings_are_not_rounded(model):
    ids = torch.arange(50)
    assert torch.equal(model.transformer.wte(ids), load("float32")[0].transformer.wte(ids))


@torch.inference_mode()
def test_a_copy_computes_the_same(model):
    ids = torch.randint(6144, (1, 9))
    assert torch.equal(copy.deepcopy(model)(ids)[0], model(ids)[0])


def test_a_model_to_be_trained_is_not_rounded():
    config = dataclasses.replace(model_config(BUNDLED), dtype="int8")
    model, _ = checkpoint.load(config, checkpoint.locate(config))
    assert not any(isinstance(module, Int8Linear) for module in model.modules())
    assert model.transformer.h[0].mlp.c_fc.weight.dtype == torch.float32


def test_a_width_that_has_no_groups_is_refused(tmp_path):
    text = (ROOT / "config.yml").read_text().replace("n_embd: 768", "n_embd: 744")
    (tmp_path / "config.yml").write_text(text.replace("dtype: float32", "dtype: int8"))
    with pytest.raises(ConfigError, match="dtype is 'int8', but n_embd, which is 744, is not divisible by 64"):
        load_config(tmp_path / "config.yml", "gpt2")


def test_it_needs_no_kernels_of_onednn(monkeypatch):
    monkeypatch.setattr(sys.modules["src.model.checkpoint"], "is_supported", lambda dtype: False)
    assert isinstance(load("int8")[0].readout_head.decoder, Int8Linear)
