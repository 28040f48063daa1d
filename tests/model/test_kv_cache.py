"""The KV cache: what it holds, when it copies, and that a past can be continued in several ways."""

import dataclasses

import pytest
import torch

from src.model.gpt2 import GPT2
from src.model.kv_cache import KVCache


def assert_next_logits(model, logits, ids) -> None:
    """`logits`, computed with a past, must be those of the last tokens of `ids` without one."""
    expected, _ = model(ids)
    # The same sums of at most 64 float32 numbers in another order.
    torch.testing.assert_close(logits, expected[:, -logits.size(1) :], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_one_token_after_a_past_equals_a_full_call(tiny_model):
    ids = torch.randint(257, (3, 20))
    _, past = tiny_model(ids[:, :19])
    logits, _ = tiny_model(ids[:, 19:], past=past)
    assert_next_logits(tiny_model, logits, ids)


@torch.inference_mode()
def test_several_tokens_after_a_past_equal_a_full_call(tiny_model):
    ids = torch.randint(257, (3, 20))
    _, past = tiny_model(ids[:, :8])
    logits, _ = tiny_model(ids[:, 8:], past=past)
    assert_next_logits(tiny_model, logits, ids)


@torch.inference_mode()
@pytest.mark.parametrize("tokens", [1, 5])
def test_candidates_on_one_past_equal_a_full_call(tiny_model, tokens):
    ids, candidates = torch.randint(257, (1, 9)), torch.randint(257, (4, tokens))
    _, past = tiny_model(ids)
    logits, _ = tiny_model(candidates, past=past)
    assert_next_logits(tiny_model, logits, torch.cat((ids.expand(4, -1), candidates), dim=1))


@torch.inference_mode()
def test_candidates_can_be_continued(tiny_model):
    ids, candidates, more = torch.randint(257, (1, 9)), torch.randint(257, (4, 1)), torch.randint(257, (4, 2))
    _, past = tiny_model(ids)
    _, past = tiny_model(candidates, past=past)
    logits, _ = tiny_model(more, past=past)
    assert_next_logits(tiny_model, logits, torch.cat((ids.expand(4, -1), candidates, more), dim=1))


@torch.inference_mode()
def test_candidates_share_the_past_without_a_copy(tiny_model):
    _, past = tiny_model(torch.randint(257, (1, 50)))
    _, presents = tiny_model(torch.randint(257, (40, 1)), past=past)
    assert presents[0].prefix is past[0]
    assert presents[0].own.shape == (2, 40, 3, 1, 4)  # one token each, none of the past's 50


@torch.inference_mode()
def test_keys_and_values_include_a_shared_past(tiny_model):
    ids, candidates = torch.randint(257, (1, 6)), torch.randint(257, (4, 1))
    _, past = tiny_model(ids)
    _, presents = tiny_model(candidates, past=past)
    _, whole = tiny_model(torch.cat((ids.expand(4, -1), candidates), dim=1))
    assert len(presents[1]) == 7
    torch.testing.assert_close(presents[1].key, whole[1].key, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(presents[1].value, whole[1].value, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_extending_a_cache_copies_it_once(tiny_config):
    model = GPT2(dataclasses.replace(tiny_config, n_positions=1024)).eval()
    token, past, places = torch.zeros(1, 1, dtype=torch.long), None, set()
    for _ in range(1000):
        _, past = model(token, past=past)
        places.add(past[0].own.data_ptr())
    assert len(places) == 2  # the first call's own tensor, and the storage


@torch.inference_mode()
def test_two_branches_of_one_past_do_not_mix(tiny_model):
    ids = torch.randint(257, (1, 10))
    _, past = tiny_model(ids[:, :9])
    _, past = tiny_model(ids[:, 9:], past=past)  # now the storage has room for more tokens, which a branch could take
    branches, running = torch.randint(257, (2, 1, 15)), [past, past]
    for t in range(15):
        for i in (0, 1):  # in turns, so that each would overwrite the other's tokens if they shared them
            logits, running[i] = tiny_model(branches[i][:, t : t + 1], past=running[i])
            assert_next_logits(tiny_model, logits, torch.cat((ids, branches[i][:, : t + 1]), dim=1))


@torch.inference_mode()
def test_a_past_keeps_its_content_when_it_is_continued(tiny_model):
    _, past = tiny_model(torch.randint(257, (2, 10)))
    _, past = tiny_model(torch.randint(257, (2, 1)), past=past)
    before = past[1].key.clone(), past[1].value.clone()
    for _ in range(3):
        _, later = tiny_model(torch.randint(257, (2, 1)), past=past)
        tiny_model(torch.randint(257, (2, 1)), past=later)
    assert torch.equal(past[1].key, before[0])
    assert torch.equal(past[1].value, before[1])


def test_a_past_of_inference_mode_serves_outside_of_it(tiny_model):
    ids = torch.randint(257, (1, 12))
    with torch.inference_mode():
        _, past = tiny_model(ids[:, :10])
        _, past = tiny_model(ids[:, 10:11], past=past)
    logits, _ = tiny_model(ids[:, 11:], past=past)
    assert_next_logits(tiny_model, logits, ids)


def test_a_past_of_another_batch_size_is_refused(tiny_model):
    _, past = tiny_model(torch.randint(257, (2, 5)))
    with pytest.raises(ValueError, match="past has batch size 2, input_ids has 3"):
        tiny_model(torch.randint(257, (3, 1)), past=past)


def test_a_new_cache_holds_the_tensor_itself():
    key_value = torch.zeros(2, 1, 3, 5, 4)
    cache = KVCache.of(key_value)
    assert len(cache) == 5
    assert cache.own.data_ptr() == key_value.data_ptr()
