"""A model that remembers texts answers as one that does not, however it is used."""

import copy

import pytest
import torch
from torch import nn

from src.hw1.remembering import remember
from src.model.gpt2 import GPT2

TEXT = torch.tensor([[5, 1, 4, 1, 5, 9]])


@pytest.fixture
def remembering(tiny_config, tiny_model):
    """A model with the weights of `tiny_model` that remembers TEXT."""
    model = copy.deepcopy(tiny_model)
    remember(model, TEXT)
    return model


@pytest.fixture
def computed(remembering, monkeypatch):
    """How often a block of the remembering model computes something."""
    calls = []
    block = type(remembering.transformer.h[0])
    forward = block.forward
    monkeypatch.setattr(block, "forward", lambda *arguments: (calls.append(1), forward(*arguments))[1])
    return calls


@torch.inference_mode()
def test_logits_and_past_are_the_same_to_the_bit(remembering, tiny_model, computed):
    logits, past = remembering(TEXT)
    assert not computed
    expected, expected_past = tiny_model(TEXT)
    assert torch.equal(logits, expected)
    assert all(torch.equal(a.own, b.own) for a, b in zip(past, expected_past, strict=True))
    assert isinstance(remembering, GPT2)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_a_text_goes_on_from_the_past(remembering, tiny_model, mode):
    with mode():
        following = torch.tensor([[2], [6]])
        logits, _ = remembering(following, past=remembering(TEXT)[1])
        assert torch.equal(logits, tiny_model(following, past=tiny_model(TEXT)[1])[0])
        logits, _ = remembering(following[:1], past=remembering(TEXT)[1])
        assert torch.equal(logits, tiny_model(following[:1], past=tiny_model(TEXT)[1])[0])


@torch.no_grad()
def test_what_a_caller_changes_is_its_own(remembering, tiny_model):
    logits, past = remembering(TEXT)
    logits.zero_()
    past[0].own.zero_()
    logits, past = remembering(TEXT)
    assert torch.equal(logits, tiny_model(TEXT)[0])
    assert past[0].own.any()


@pytest.mark.parametrize(
    "touch",
    [
        lambda transformer: transformer.h[0].mlp.c_fc.weight.mul_(2),
        lambda transformer: setattr(transformer.ln_f, "weight", nn.Parameter(torch.zeros(12))),
        lambda transformer: setattr(transformer.ln_f.weight, "data", torch.zeros(12)),
    ],
    ids=["in place", "parameter", "data"],
)
@torch.no_grad()
def test_a_model_whose_weights_were_touched_computes(remembering, tiny_model, touch):
    before = remembering(TEXT)[0]
    touch(remembering.transformer)
    assert not torch.equal(remembering(TEXT)[0], before)
    plain = copy.deepcopy(remembering)
    plain.transformer.__class__ = type(tiny_model.transformer)
    assert torch.equal(remembering(TEXT)[0], plain(TEXT)[0])


@torch.no_grad()
def test_a_copy_computes_for_itself(remembering, tiny_model, computed):
    copied = copy.deepcopy(remembering)
    assert torch.equal(copied(TEXT)[0], tiny_model(TEXT)[0])
    assert len(computed) == 2 * len(tiny_model.transformer.h)
    assert not torch.equal(copied.double()(TEXT)[0], tiny_model(TEXT)[0])


@torch.no_grad()
def test_hooks_are_called(remembering):
    seen = []
    remembering.transformer.h[1].register_forward_hook(lambda *_: seen.append(1))
    remembering(TEXT)
    assert seen == [1]


@torch.no_grad()
def test_other_texts_and_options_are_computed(remembering, tiny_model, computed):
    for ids, options in (
        (TEXT.flip(1), {}),
        (TEXT.repeat(2, 1), {}),
        (TEXT, {"position_ids": torch.arange(1, 7)}),
        (TEXT, {"token_type_ids": TEXT}),
        (TEXT, {"past": tiny_model(TEXT)[1]}),
    ):
        computed.clear()
        assert torch.equal(remembering(ids, **options)[0], tiny_model(ids, **options)[0])
        assert len(computed) == 2 * len(tiny_model.transformer.h)
