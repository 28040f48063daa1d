"""Problems 6.3, 6.6 and 6.7: sampling text from GPT-2, with and without temperature."""

if __name__ == "__main__":
    raise SystemExit("main.py runs this file; try: python main.py --model bundled --question 6.3")

from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from tqdm import trange

FILTERED = -1e10  # the logit of a token that must not be drawn


def top_k_logits(
    logits: Tensor,  # (..., V), where V is the size of the vocabulary
    k: int,
) -> Tensor:  # (..., V)
    """Keep the k largest logits of each row and set all others to FILTERED; k = 0 keeps all. (Given.)"""
    if k == 0:
        return logits
    kth_largest = logits.topk(min(k, logits.size(-1)), dim=-1).values[..., -1:]  # (..., 1)
    return torch.where(logits < kth_largest, FILTERED, logits)


def temperature_scale(
    logits: Tensor,  # (B, V), already filtered by `top_k_logits`
    model: nn.Module,  # the GPT-2 that returned the logits
    new_past: Any,  # what it returned with them: its memory of all tokens so far
    config: Any,  # config.top_k is the k of `top_k_logits`
    temperature: float | None,  # T > 0; None returns the logits as they are
    temperature_horizon: int,  # 1 scales the next token's distribution; 2, for B = 1, the joint one of the next two
) -> Tensor:  # (B, V)
    """Logits of the distribution from which the next token is drawn at this temperature."""
    if temperature is None:
        return logits

    if temperature_horizon == 1:
        # TODO 6.6: return logits (B, V) such that p_T(x_i | x_<i) ∝ exp(log p(x_i | x_<i) / T).
        # `logits` must stay as it is: the caller may use it again.
        ### START CODE HERE ###
        raise NotImplementedError("6.6")
        ### END CODE HERE ###

    if temperature_horizon == 2:
        if logits.size(0) != 1:
            raise ValueError(f"temperature_horizon=2 takes one text at a time (B = 1), not {logits.size(0)}")
        # Given: the K tokens that passed the filter, and, from one call of the model, the logits of the token that
        # follows each of them.
        candidates = (logits[0] > FILTERED).nonzero().squeeze(1)  # (K,) token ids
        next_logits, _ = model(candidates.unsqueeze(1), past=new_past)  # (K, 1, V)

        # TODO 6.7 (bonus): compute `scaled` (K,): for each candidate a,
        #     log Σ_b exp(log p(x_i = a, x_{i+1} = b | x_<i) / T).
        # 1) log p(x_i = a | x_<i), shape (K,), from `logits`;
        # 2) log p(x_{i+1} = b | x_<i, x_i = a), shape (K, V), from `next_logits`, which are not filtered yet: filter
        #    them, each row by itself, as `logits` were;
        # 3) the joint distribution, scaled; then sum over b.
        # Stay in log space: torch.logsumexp sums probabilities there.
        ### START CODE HERE ###
        raise NotImplementedError("6.7")
        ### END CODE HERE ###

        scaled_logits = torch.full_like(logits, FILTERED)
        scaled_logits[0, candidates] = scaled
        return scaled_logits

    raise ValueError(f"temperature_horizon is {temperature_horizon!r}, but must be 1 or 2")


def sample(
    model: nn.Module,  # a GPT-2: model(token_ids, past=past) returns (logits, new_past)
    start_text: LongTensor,  # (B, T), the token ids of B prompts
    config: Any,  # config.top_k: how many tokens may be drawn from at each step
    length: int,  # how many tokens to draw for each prompt
    temperature: float | None = None,  # None: no scaling
    temperature_horizon: int = 1,  # see `temperature_scale`
) -> LongTensor:  # (B, T + length)
    """The prompts, each continued by `length` tokens drawn from the model, one after the other."""
    current_text = start_text  # the tokens that the model has not seen yet
    past = None  # its memory of the tokens that it has seen
    output = [start_text]
    with torch.no_grad():
        for _ in trange(length, desc="sampling", leave=False):
            logits, new_past = model(current_text, past=past)
            logits = logits[:, -1, :]  # (B, V): what follows the last token
            logits = top_k_logits(logits, k=config.top_k)
            logits = temperature_scale(logits, model, new_past, config, temperature, temperature_horizon)

            # TODO 6.3: draw each prompt's next token and continue from it.
            # 1) draw from the distribution that the logits (B, V) define: a LongTensor (B, 1);
            # 2) append it to the list `output`;
            # 3) set `current_text` to what the model has to see next. `past` remembers everything before it; the tests
            #    ask that the model is fed no token twice.
            # torch.softmax and torch.multinomial may help.
            ### START CODE HERE ###
            raise NotImplementedError("6.3")
            ### END CODE HERE ###

            past = new_past
    return torch.cat(output, dim=1)
