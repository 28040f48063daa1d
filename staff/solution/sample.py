"""Problems 6.3, 6.6 and 6.7: sampling text from GPT-2, with and without temperature."""

import torch
from tqdm import trange

FILTERED = -1e10  # the logit of a token that must not be drawn


def top_k_logits(logits, k):
    """Keep the k largest logits of each row and set all others to FILTERED; k = 0 keeps all. (Given.)

    Args:
        logits: tensor (..., V), V being the size of the vocabulary
        k: int

    Returns:
        tensor (..., V)
    """
    if k == 0:
        return logits
    kth_largest = logits.topk(min(k, logits.size(-1)), dim=-1).values[..., -1:]  # (..., 1)
    return torch.where(logits < kth_largest, FILTERED, logits)


def temperature_scale(logits, model, new_past, config, temperature, temperature_horizon):
    """Logits of the distribution from which the next token is drawn at this temperature.

    Args:
        logits: tensor (B, V), already filtered by `top_k_logits`
        model: the GPT-2 from which the logits come
        new_past: what the model returned together with the logits: its memory of all tokens so far
        config: the configuration; `config.top_k` is the k of `top_k_logits`
        temperature: float T > 0, or None, which returns the logits as they are
        temperature_horizon: 1 scales the distribution of the next token; 2, for B = 1, the joint one of the next two

    Returns:
        tensor (B, V)
    """
    if temperature is None:
        return logits

    if temperature_horizon == 1:
        # TODO 6.6: return logits (B, V) such that p_T(x_i | x_<i) ∝ exp(log p(x_i | x_<i) / T).
        # `logits` must stay as it is: the caller may go on using it.
        ### START CODE HERE ###
        return logits / temperature
        ### END CODE HERE ###

    if temperature_horizon == 2:
        if logits.size(0) != 1:
            raise ValueError(f"temperature_horizon=2 takes one text at a time (B = 1), not {logits.size(0)}")
        # Given: the K tokens that passed the filter, and after each of them, in one call of the model, the logits of
        # the token that follows.
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
        log_p_first = logits[0, candidates].log_softmax(dim=-1)  # (K,)
        next_logits = top_k_logits(next_logits[:, -1], k=config.top_k)  # (K, V)
        log_p_second = next_logits.log_softmax(dim=-1)  # (K, V)
        log_p_joint = log_p_first.unsqueeze(1) + log_p_second  # (K, V)
        scaled = torch.logsumexp(log_p_joint / temperature, dim=-1)  # (K,)
        ### END CODE HERE ###

        scaled_logits = torch.full_like(logits, FILTERED)
        scaled_logits[0, candidates] = scaled
        return scaled_logits

    raise ValueError(f"temperature_horizon is {temperature_horizon!r}, but must be 1 or 2")


def sample(model, start_text, config, length, temperature=None, temperature_horizon=1):
    """Continue `start_text` by `length` tokens drawn from the model, one after the other.

    Args:
        model: a GPT-2; model(token_ids, past=past) returns (logits, new_past)
        start_text: LongTensor (B, T): B prompts of T token ids each
        config: the configuration; `config.top_k` tells how many tokens may be drawn from at each step
        length: int, the number of tokens to draw for each prompt
        temperature: float, or None for no scaling
        temperature_horizon: 1 or 2, see `temperature_scale`

    Returns:
        LongTensor (B, T + length): the prompts and their continuations
    """
    current_text = start_text  # the tokens that the model has not seen yet
    past = None  # the model's memory of those that it has seen
    output = [start_text]
    with torch.no_grad():
        for _ in trange(length, desc="sampling", leave=False):
            logits, new_past = model(current_text, past=past)
            logits = logits[:, -1, :]  # (B, V): what follows the last token
            logits = top_k_logits(logits, k=config.top_k)
            logits = temperature_scale(logits, model, new_past, config, temperature, temperature_horizon)

            # TODO 6.3: draw each prompt's next token and go on from it.
            # 1) draw from the distribution that the logits (B, V) define: a LongTensor (B, 1);
            # 2) append it to the list `output`;
            # 3) set `current_text` to what the model has to see next. `past` remembers all that came before.
            # torch.softmax and torch.multinomial may help.
            ### START CODE HERE ###
            probabilities = torch.softmax(logits, dim=-1)  # (B, V)
            next_token = torch.multinomial(probabilities, num_samples=1)  # (B, 1)
            output.append(next_token)
            current_text = next_token
            ### END CODE HERE ###

            past = new_past
    return torch.cat(output, dim=1)
