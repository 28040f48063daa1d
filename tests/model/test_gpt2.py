"""The model compared with the `transformers` library, and its errors and settings."""

import dataclasses

import pytest
import torch

from src.files import ROOT
from src.model.checkpoint import build
from src.model.compiled import use_compiled_step
from src.model.config import load_config
from src.model.gpt2 import GPT2
from src.model.onednn import is_supported, use_onednn

# float32 sums of a few hundred terms in another order: logits of size about 1 differ by some 1e-6, never by 1e-4.
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["PyTorch", "oneDNN", "compiled"])
def small(request):
    """GPT-2 small's shape with random weights: the reference of `transformers`, and ours with the same tensors."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = load_config(ROOT / "config.yml", "gpt2")
    torch.manual_seed(0)
    reference = GPT2LMHeadModel(GPT2Config()).eval().requires_grad_(False)
    for name, parameter in reference.named_parameters():
        # New biases and norms are 0 and 1, with which a mix-up would go unnoticed.
        if name.endswith("bias") or ".ln_" in name:
            parameter.add_(torch.randn_like(parameter) * 0.05)
    weights = {name.removeprefix("transformer."): t for name, t in reference.state_dict().items()}
    model = build(config, weights, ROOT / "random weights")
    if request.param != "PyTorch":
        if not is_supported(torch.float32):
            pytest.skip("oneDNN has no fast kernels for this processor")
        use_onednn(model)
    if request.param == "compiled" and not use_compiled_step(model):
        pytest.skip("the step cannot be compiled here")
    return reference, model


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(50257, (1, 200), generator=torch.Generator().manual_seed(1))


def assert_equal_to(reference, logits, ids) -> None:
    """`logits` must be those of the reference for the last tokens of `ids`."""
    expected = reference(ids).logits[:, -logits.size(1) :]
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_a_call_with_200_tokens_equals_the_reference(small, tokens):
    reference, model = small
    assert_equal_to(reference, model(tokens)[0], tokens)


@torch.inference_mode()
def test_presents_hold_keys_and_values_of_every_layer(small, tokens):
    _, presents = small[1](tokens)
    assert [present.key.shape for present in presents] == [(1, 12, 200, 64)] * 12
    assert [present.value.shape for present in presents] == [(1, 12, 200, 64)] * 12


@torch.inference_mode()
def test_decoding_token_by_token_equals_the_reference(small, tokens):
    reference, model = small
    past, steps = None, []
    for t in range(40):
        logits, past = model(tokens[:, t : t + 1], past=past)
        steps.append(logits)
    assert_equal_to(reference, torch.cat(steps, dim=1), tokens[:, :40])


@torch.inference_mode()
def test_two_branches_of_one_past_equal_the_reference(small, tokens):
    reference, model = small
    _, past = model(tokens[:, :50])
    _, past = model(tokens[:, 50:51], past=past)
    branches, running = [tokens[:, 60:75], tokens[:, 80:95]], [past, past]
    for t in range(15):
        for i, branch in enumerate(branches):
            logits, running[i] = model(branch[:, t : t + 1], past=running[i])
            if t in (0, 14):
                assert_equal_to(reference, logits, torch.cat((tokens[:, :51], branch[:, : t + 1]), dim=1))


@pytest.mark.slow
@torch.inference_mode()
def test_40_candidates_on_one_past_equal_the_reference(small, tokens):
    reference, model = small
    _, past = model(tokens[:, :100])
    candidates = torch.arange(40).unsqueeze(1) * 1000  # (40, 1)
    texts = torch.cat((tokens[:, :100].expand(40, -1), candidates), dim=1)
    logits, past = model(candidates, past=past)
    assert_equal_to(reference, logits, texts)
    more, _ = model(candidates.flip(0), past=past)
    assert_equal_to(reference, more, torch.cat((texts, candidates.flip(0)), dim=1))


def test_a_text_longer_than_n_positions_is_refused(tiny_model):
    _, past = tiny_model(torch.randint(257, (1, 64)))
    with pytest.raises(ValueError, match=r"65 tokens .* only 64 positions"):
        tiny_model(torch.randint(257, (1, 1)), past=past)


def test_an_empty_text_is_refused(tiny_model):
    with pytest.raises(ValueError, match="no tokens"):
        tiny_model(torch.zeros(1, 0, dtype=torch.long))


def test_a_new_model_shares_readout_and_embedding(tiny_model):
    assert tiny_model.readout_head.decoder.weight is tiny_model.transformer.wte.weight


def test_set_tied_shares_readout_and_embedding_again(tiny_model):
    tiny_model.readout_head.decoder.weight = torch.nn.Parameter(torch.zeros(257, 12))
    tiny_model.set_tied()
    assert tiny_model.readout_head.decoder.weight is tiny_model.transformer.wte.weight


def test_new_weights_have_gpt2s_spread(tiny_config):
    model = GPT2(dataclasses.replace(tiny_config, n_embd=96, initializer_range=0.02))
    mlp = model.transformer.h[0].mlp
    # The relative error of a standard deviation of 36864 samples is 1 / sqrt(2 * 36864) = 0.4 %.
    assert mlp.c_fc.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert mlp.c_proj.weight.std().item() == pytest.approx(0.02 / (2 * 2) ** 0.5, rel=0.03)


def test_positions_are_counted_from_0(tiny_model):
    ids = torch.randint(257, (1, 4))
    assert torch.equal(tiny_model(ids)[0], tiny_model(ids, position_ids=torch.arange(4))[0])


def test_position_ids_are_used(tiny_model):
    ids = torch.randint(257, (1, 4))
    assert not torch.allclose(tiny_model(ids)[0], tiny_model(ids, position_ids=torch.arange(5, 9))[0])


def test_token_type_ids_are_used(tiny_model):
    ids = torch.randint(257, (1, 4))
    assert not torch.allclose(tiny_model(ids)[0], tiny_model(ids, token_type_ids=torch.full_like(ids, 7))[0])


def test_bfloat16_stays_near_float32(tiny_config, tiny_model):
    half = build(dataclasses.replace(tiny_config, dtype="bfloat16"), tiny_model.transformer.state_dict(), ROOT)
    ids = torch.randint(257, (2, 16))
    logits, expected = half(ids)[0], tiny_model(ids)[0]
    assert half.transformer.wte.weight.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits, so a rounding errs by 0.2 % on average; a logit goes through some thirty of them, and this
    # model's large weights (0.5) amplify them a few times.
    assert (logits - expected).norm() < 0.03 * expected.norm()


def test_logits_are_float32_in_a_bfloat16_model(tiny_config):
    model = GPT2(dataclasses.replace(tiny_config, dtype="bfloat16"))
    assert model(torch.zeros(1, 3, dtype=torch.long))[0].dtype == torch.float32
