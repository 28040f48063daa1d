"""The model against the `transformers` library, and the promises of its KV cache."""

import dataclasses

import pytest
import torch

from src.checkpoint import build
from src.config import ROOT, load_config
from src.gpt2 import GPT2
from src.packing import can_pack, pack

# float32 sums of a few hundred terms in another order: logits of size about 1 differ by some 1e-6, never by 1e-4.
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["as written", "packed"])
def small(request):
    """GPT-2 small's shape with random weights: the reference of `transformers`, and ours with the same tensors."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = load_config(ROOT / "config.yml", "gpt2")
    torch.manual_seed(0)
    reference = GPT2LMHeadModel(GPT2Config()).eval().requires_grad_(False)
    for name, parameter in reference.named_parameters():
        # Fresh biases and norms are 0 and 1, which would hide a mix-up.
        if name.endswith("bias") or ".ln_" in name:
            parameter.add_(torch.randn_like(parameter) * 0.05)
    weights = {name.removeprefix("transformer."): t for name, t in reference.state_dict().items()}
    model = build(config, weights, ROOT / "random weights")
    if request.param == "packed":
        if not can_pack(torch.float32):
            pytest.skip("this processor has no kernels for packed weights")
        pack(model)
    return reference, model, config


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(50257, (1, 200), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_full_forward_of_200_tokens_equals_the_reference(small, tokens):
    reference, model, _ = small
    logits, presents = model(tokens)
    torch.testing.assert_close(logits, reference(tokens).logits, atol=TOLERANCE, rtol=0)
    assert len(presents) == 12
    assert presents[0].key.shape == presents[0].value.shape == (1, 12, 200, 64)


@torch.inference_mode()
def test_decoding_token_by_token_equals_the_reference(small, tokens):
    reference, model, _ = small
    past, step_logits = None, []
    for t in range(40):
        logits, past = model(tokens[:, t : t + 1], past=past)
        step_logits.append(logits)
    torch.testing.assert_close(torch.cat(step_logits, 1), reference(tokens[:, :40]).logits, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_two_branches_from_one_past_each_equal_the_reference(small, tokens):
    reference, model, _ = small
    _, past = model(tokens[:, :50])
    _, past = model(tokens[:, 50:51], past=past)  # now the storage has room behind the past
    branches = [tokens[:, 60:75], tokens[:, 80:95]]
    running = [past, past]
    for t in range(15):  # in turn, so that each would overwrite the other's tokens if they shared them
        for i, branch in enumerate(branches):
            logits, running[i] = model(branch[:, t : t + 1], past=running[i])
            whole = torch.cat((tokens[:, :51], branch[:, : t + 1]), dim=1)
            if t in (0, 14):
                expected = reference(whole).logits[:, -1:]
                torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_40_candidates_on_one_past_equal_the_reference_without_copying_it(small, tokens):
    reference, model, _ = small
    _, past = model(tokens[:, :100])
    candidates = torch.arange(40).unsqueeze(1) * 1000  # (40, 1)
    logits, presents = model(candidates, past=past)
    whole = torch.cat((tokens[:, :100].expand(40, -1), candidates), dim=1)
    torch.testing.assert_close(logits, reference(whole).logits[:, -1:], atol=TOLERANCE, rtol=0)
    assert presents[0].own.shape == (2, 40, 12, 1, 64)  # the past's 100 tokens are in none of the 40
    assert presents[0].prefix is past[0]
    assert presents[0].key.shape == (40, 12, 101, 64)

    more, _ = model(candidates.flip(0), past=presents)  # and the candidates can go on
    whole = torch.cat((whole, candidates.flip(0)), dim=1)
    torch.testing.assert_close(more, reference(whole).logits[:, -1:], atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_several_tokens_after_a_past_equal_a_full_forward(tiny_model):
    ids = torch.randint(257, (3, 20))
    expected, _ = tiny_model(ids)
    _, past = tiny_model(ids[:, :8])
    logits, _ = tiny_model(ids[:, 8:], past=past)
    torch.testing.assert_close(logits, expected[:, 8:], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_candidates_of_several_tokens_on_one_past_equal_a_full_forward(tiny_model):
    ids, continuations = torch.randint(257, (1, 9)), torch.randint(257, (4, 5))
    _, past = tiny_model(ids)
    logits, _ = tiny_model(continuations, past=past)
    expected, _ = tiny_model(torch.cat((ids.expand(4, -1), continuations), dim=1))
    torch.testing.assert_close(logits, expected[:, 9:], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_extending_the_cache_copies_it_once(tiny_config):
    model = GPT2(dataclasses.replace(tiny_config, n_positions=1024)).eval()
    token, past, places = torch.zeros(1, 1, dtype=torch.long), None, set()
    for _ in range(1000):
        _, past = model(token, past=past)
        places.add(past[0].own.data_ptr())
    assert len(places) == 2  # the first call's own tensor, and the storage


@torch.inference_mode()
def test_a_past_that_was_handed_out_keeps_its_content(tiny_model):
    _, past = tiny_model(torch.randint(257, (2, 10)))
    _, past = tiny_model(torch.randint(257, (2, 1)), past=past)
    before = past[1].key.clone(), past[1].value.clone()
    for _ in range(3):
        _, later = tiny_model(torch.randint(257, (2, 1)), past=past)
        tiny_model(torch.randint(257, (2, 1)), past=later)
    assert torch.equal(past[1].key, before[0])
    assert torch.equal(past[1].value, before[1])


def test_a_past_from_inference_mode_serves_outside_of_it(tiny_model):
    ids = torch.randint(257, (1, 12))
    with torch.inference_mode():
        _, past = tiny_model(ids[:, :10])
        _, past = tiny_model(ids[:, 10:11], past=past)
    logits, _ = tiny_model(ids[:, 11:], past=past)
    torch.testing.assert_close(logits[:, -1], tiny_model(ids)[0][:, -1], atol=1e-5, rtol=1e-5)


def test_batches_of_other_sizes_than_the_past_are_refused(tiny_model):
    _, past = tiny_model(torch.randint(257, (2, 5)))
    with pytest.raises(ValueError, match="past has batch size 2, input_ids has 3"):
        tiny_model(torch.randint(257, (3, 1)), past=past)


def test_running_past_n_positions_is_refused(tiny_model):
    _, past = tiny_model(torch.randint(257, (1, 64)))
    with pytest.raises(ValueError, match=r"65 tokens .* only 64 positions"):
        tiny_model(torch.randint(257, (1, 1)), past=past)


def test_an_empty_text_is_refused(tiny_model):
    with pytest.raises(ValueError, match="no tokens"):
        tiny_model(torch.zeros(1, 0, dtype=torch.long))


def test_the_readout_is_the_embedding(tiny_model, tiny_config):
    model = GPT2(tiny_config)
    assert model.readout_head.decoder.weight is model.transformer.wte.weight
    weights = dict(model.transformer.state_dict())
    loaded = build(tiny_config, weights, ROOT)
    assert loaded.readout_head.decoder.weight is loaded.transformer.wte.weight
    loaded.set_tied()
    assert loaded.readout_head.decoder.weight.data_ptr() == loaded.transformer.wte.weight.data_ptr()


def test_position_and_token_type_ids_are_used(tiny_model):
    ids = torch.randint(257, (1, 4))
    plain, _ = tiny_model(ids)
    counted, _ = tiny_model(ids, position_ids=torch.arange(4))
    shifted, _ = tiny_model(ids, position_ids=torch.arange(5, 9))
    typed, _ = tiny_model(ids, token_type_ids=torch.full_like(ids, 7))
    assert torch.equal(plain, counted)
    assert not torch.allclose(plain, shifted)
    assert not torch.allclose(plain, typed)


def test_bfloat16_by_config_stays_near_float32(tiny_config, tiny_model):
    half = build(dataclasses.replace(tiny_config, dtype="bfloat16"), tiny_model.transformer.state_dict(), ROOT)
    ids = torch.randint(257, (2, 16))
    logits, _ = half(ids)
    assert half.transformer.wte.weight.dtype == torch.bfloat16
    expected = tiny_model(ids)[0]
    # bfloat16 keeps 8 bits, an error of 0.2 % a rounding on average; some thirty roundings lie on the way, and this
    # model's large weights (0.5) amplify them a few times.
    assert (logits.float() - expected).norm() < 0.03 * expected.norm()
