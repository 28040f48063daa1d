"""What each part asks of a student's functions. `grader.py` and the hidden tests call these with different cases."""

import math
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from src.artifacts import CLASSIFICATION, DATASETS, read_record
from src.config import ROOT
from src.dataset import read_pieces, read_snippets
from src.errors import UserError, printable
from src.grading import diagnosis, oracle
from src.grading.assignment import Part, PointsLost, numbers
from src.grading.call import Returned
from src.grading.oracle import TableModel, close, log_softmax, top_k
from src.safe_pickle import read_float_array, read_plain
from src.submission import artifact_problems

GPT2 = {"model": "gpt2"}
GPT2_CONFIG = {"config": "gpt2"}
LOOK_AHEADS = 200  # draws, one prompt at a time
DRAWS = 10_000  # so many prompts at once; see `oracle.fits` for the chance of a false alarm


# --- 6.3 ---


def _sampled(
    part: Part,
    tried: str,
    model: TableModel | None,
    prompts: np.ndarray,
    k: int,
    length: int,
    *scale: float,
) -> np.ndarray:
    """The ids (B, T + length) that `sample` returns, once they have the right shape and begin with the prompts."""
    reference, config = (model.reference, model.config(k)) if model else (GPT2, GPT2_CONFIG)
    arguments = (reference, prompts, config, length, *scale)
    returned = part.call(tried, "sample.py", "sample", *arguments, answer=model and model.answer)
    expected = f"a LongTensor of shape ({len(prompts)}, {prompts.shape[1]} + {length})"
    ids, shape = returned.value, (len(prompts), prompts.shape[1] + length)
    if returned.kind != "tensor" or not isinstance(ids, np.ndarray) or ids.dtype != np.int64:
        part.lose(tried, expected, returned.described(), reason="sample must return a LongTensor")
    if ids.shape != shape:
        mistake = ("wrong length",) if ids.ndim == 2 else ("one dimension",) if ids.ndim == 1 else ()
        if np.array_equal(ids, prompts):
            mistake = ("not appended",)
        elif ids.shape == (shape[0], length) and not np.array_equal(ids[:, :1], prompts[:, :1]):
            mistake = ("only new tokens",)
        part.lose(tried, expected, returned.described(), mistake, reason="sample returns the wrong shape")
    if not (ids[:, : prompts.shape[1]] == prompts).all():
        part.lose(tried, "that the result begins with the prompt", "other tokens", reason="the prompt was changed")
    vocab_size = model.vocab_size if model else part.sandbox.config.vocab_size
    if ids.size and not (ids.min() >= 0 and ids.max() < vocab_size):
        came = f"ids from {ids.min()} to {ids.max()}"
        part.lose(tried, f"ids of the vocabulary, 0 to {vocab_size - 1}", came, reason="ids outside of the vocabulary")
    return ids


def draws(part: Part, model: TableModel, prompts: np.ndarray, k: int, temperature: float | None = None) -> None:
    """`sample` follows the distribution of the next two tokens, each from the top k, after each of `prompts` (n, T)."""
    n = len(prompts)
    tried = (
        f"sample 2 tokens after each of {DRAWS:,} prompts (a model of {model.vocab_size} tokens, top_k = {k or 'all'})"
    )
    batch = np.repeat(prompts, DRAWS // n, axis=0)
    tried += f" at temperature {temperature}" if temperature else ""
    ids = _sampled(part, tried, model, batch, k, 2, *([temperature] if temperature else []))
    drawn, logits = ids[:, -2:], model.logits(prompts)[:, -1]
    for i, prompt in enumerate(prompts):
        pairs = drawn[i * (DRAWS // n) : (i + 1) * (DRAWS // n)]
        counts = np.zeros((model.vocab_size, model.vocab_size))
        np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
        expected = oracle.pair_probabilities(model, prompt, k, temperature or 1.0)
        firsts, p_first = counts.sum(axis=1), expected.sum(axis=1)
        if not oracle.fits(firsts, p_first):
            mistake = diagnosis.draws(firsts, logits[i], k, logits)
            if (drawn[:, 0] == drawn[0, 0]).all() and len(set(logits.argmax(axis=-1))) > 1:
                mistake = ("shared draw",)
            came = f"the first token was drawn with the frequencies {numbers(firsts / firsts.sum(), 20)}"
            part.lose(
                tried,
                f"frequencies near {numbers(p_first, 20)}",
                came,
                mistake,
                "the draws have the wrong distribution",
            )
        if not oracle.fits(counts.reshape(-1), expected.reshape(-1)):
            # Given the first token: what would follow if it had no influence, or if the draws were the same again?
            seconds, alone = counts.sum(axis=0), np.outer(p_first, p_first)
            mistake = diagnosis.feeding(model.asked[1], ids[:, :-1]) if len(model.asked) > 1 else ()
            if not mistake and oracle.fits(counts.reshape(-1), alone.reshape(-1)):
                mistake = ("stale logits",)
            if not mistake:
                after = model.logits(np.concatenate((prompt, [firsts.argmax()]))[None])[0, -1]
                mistake = diagnosis.draws(counts[firsts.argmax()], after, k)
            if not mistake and oracle.entropy(counts) - oracle.entropy(firsts) < 0.7 * (
                oracle.entropy(expected) - oracle.entropy(p_first)
            ):
                mistake = ("repeated draw",)
            came = f"the second token was drawn with the frequencies {numbers(seconds / seconds.sum(), 20)}"
            expectation = (
                f"frequencies near {numbers(expected.sum(axis=0), 20)}, and the right ones after each first token"
            )
            part.lose(tried, expectation, came, mistake, "the draws of the second token have the wrong distribution")


def draws_alone(part: Part, model: TableModel, prompt: np.ndarray, k: int) -> None:
    """`sample` follows the distribution of the next token also after a single prompt, (1, T)."""
    tried = f"sample 1 token after a single prompt, {LOOK_AHEADS} times"
    counts = np.bincount(_drawn_alone(part, tried, model, prompt, k), minlength=model.vocab_size)
    logits = model.logits(prompt)[0, -1]
    expected = np.exp(log_softmax(top_k(logits, k)))
    if not oracle.fits(counts, expected):
        shown = [f"frequencies {numbers(p, 20)}" for p in (expected, counts / counts.sum())]
        mistake = diagnosis.draws(counts, logits, k)
        mistake = ("repeated draw",) if mistake == ("shared draw",) else mistake
        part.lose(tried, *shown, mistake, "the draws have the wrong distribution")


def _drawn_alone(part: Part, tried: str, model: TableModel, prompt: np.ndarray, k: int, *scale: float) -> list[int]:
    """The tokens that `sample` draws after `prompt`, one at a time."""
    return [_sampled(part, tried, model, prompt, k, 1, *scale)[0, -1] for _ in range(LOOK_AHEADS)]


def feeding(part: Part, model: TableModel, prompts: np.ndarray, length: int, k: int) -> None:
    """After the prompts, `sample` feeds the model exactly the new token, with the `past` that it returned."""
    shape = f"{len(prompts)} prompt(s) of {prompts.shape[1]} tokens"
    tried = f"sample {length} tokens after {shape}, watching what the model is fed"
    ids = _sampled(part, tried, model, prompts, k, length)
    start, fed = prompts.shape[1], 0
    expected = (
        "one call of the model a token: first the prompt, then the new token alone, with the past returned before"
    )
    for step, asked in enumerate(model.asked):
        piece = ids[:, fed : fed + asked.ids.shape[1]]
        past = ids[:, :fed] if fed else None
        right = np.array_equal(asked.ids, piece) and (asked.past is None) == (past is None)
        right = right and (past is None or np.array_equal(asked.past, past))
        if not right or fed + piece.shape[1] > max(start, fed + 1):  # the prompt may come in pieces
            behind = "no past" if asked.past is None else f"a past of {asked.past.shape[1]} tokens"
            came = f"call {step + 1} fed ids of shape {asked.ids.shape} with {behind}"
            mistakes = diagnosis.feeding(asked, ids[:, : fed + 1]) if fed >= start else ()
            part.lose(tried, expected, came, mistakes, reason="the model is not fed what it should be")
        fed += piece.shape[1]
    if not 0 <= fed - (start + length - 1) <= 1:
        came = f"the model was fed {fed} of the {start} + {length} tokens, in {len(model.asked)} calls"
        part.lose(tried, expected, came, reason="the model is called too often or too rarely")


def sampling_gpt2(part: Part, texts: Sequence[str], tokens: int, length: int) -> None:
    """On the bundled GPT-2, all tokens that `sample` draws lie in the top k after what stands before them."""
    tried = f"sample {length} tokens after {len(texts)} prompts of {tokens} tokens with the bundled GPT-2"
    prompts = np.stack([ids[:tokens] for ids in part.sandbox.encode(texts)])
    ids = _sampled(part, tried, None, prompts, part.sandbox.config.top_k, length)
    logits = part.sandbox.logits(ids)[:, tokens - 1 : -1]  # (B, length, V)
    drawn = np.take_along_axis(logits, ids[:, tokens:, None], axis=-1)[..., 0]
    k = part.sandbox.config.top_k
    smallest = np.sort(logits, axis=-1)[..., -k]
    outside = int((drawn < smallest - 1e-2).sum())
    if outside:
        came = f"{outside} of {drawn.size} tokens lie outside"
        mistake = ("unfiltered",) if outside < drawn.size / 2 else ()
        if (ids[:, tokens:] == ids[0, tokens:]).all():
            mistake = ("shared draw",)
        part.lose(tried, f"tokens from the top {k}", came, mistake, "tokens outside of the top k were drawn")


# --- 6.4 ---


def likelihoods(part: Part, model: TableModel | None, texts: Sequence[np.ndarray]) -> None:
    """`log_likelihood` is right for each of `texts`, (T,) each, under a table model or (None) the bundled GPT-2."""
    got, logits = [], []
    name = f"a model of {model.vocab_size} tokens" if model else "the bundled GPT-2"
    tried = f"log_likelihood of texts of {', '.join(str(len(text)) for text in texts)} tokens ({name})"
    for ids in texts:
        reference, answer = (model.reference, model.answer) if model else (GPT2, None)
        returned = part.call(tried, "likelihood.py", "log_likelihood", reference, ids[None], answer=answer)
        logits.append((model.logits if model else part.sandbox.logits)(ids[None])[0])
        number = returned.number()
        if number is None:
            part.lose(tried, "a number", returned.described(), reason="log_likelihood must return one number")
        got.append(number)
    expected = [oracle.log_likelihood(answer, ids) for answer, ids in zip(logits, texts, strict=True)]
    if not all(close(g, e) for g, e in zip(got, expected, strict=True)):
        mistakes = diagnosis.likelihood(got, logits, texts)
        if not mistakes:
            backwards = [ids[::-1].copy() for ids in texts]
            answers = [(model.logits if model else part.sandbox.logits)(ids[None])[0] for ids in backwards]
            if all(map(close, got, map(oracle.log_likelihood, answers, backwards))):
                mistakes = ("reversed",)
        shown = [", ".join(f"{value:.6g}" for value in values) for values in (expected, got)]
        part.lose(tried, shown[0], shown[1], mistakes, reason="the values are wrong")


def likelihood_type(part: Part, text: str) -> None:
    """`log_likelihood` returns a plain Python float and leaves the model as it was."""
    tried = "log_likelihood of a sentence, with the bundled GPT-2"
    (ids,) = part.sandbox.encode([text])
    returned = part.call(tried, "likelihood.py", "log_likelihood", GPT2, ids[None], watch=True)
    if not (returned.kind == "plain" and type(returned.value) is float and math.isfinite(returned.value)):
        gradient = " that drags its gradient along" if returned.requires_grad else ""
        came, reason = returned.described() + gradient, "the result is not a Python float"
        part.lose(tried, "a Python float", came, ("not a float",) if returned.number() is not None else (), reason)
    if returned.model_changed:
        part.lose(tried, "that the model is as before", "the model was changed", reason="the model was changed")


# --- 6.5 ---


def decisions(part: Part, texts: dict[str, Sequence[str]]) -> float:
    """The share of the points that `classification` has earned on texts of the kinds random, plays and papers.

    It is the share of random texts that were found, plus that of the kind of written text which fared worse, minus one:
    nothing for calling all texts the same. Where the student's own `log_likelihood` (part 6.4) leads to less than all
    of it, the right one takes its place, and the better result counts.
    """
    flat = [(kind, text) for kind, of_kind in texts.items() for text in of_kind]
    secrets.SystemRandom().shuffle(flat)  # an order that nobody can know
    ids = part.sandbox.encode([text for _, text in flat])
    tried = f"classification of {len(flat)} texts: " + ", ".join(f"{len(t)} {kind}" for kind, t in texts.items())
    credit, lost = _decided(part, tried, flat, ids, None)
    if credit < 1:
        part.start_afresh()  # the classifier has the student's function already
        known = {tuple(i.tolist()): oracle.log_likelihood(part.sandbox.logits(i[None])[0], i) for i in ids}
        credit, lost = max((_decided(part, tried, flat, ids, known), (credit, lost)), key=lambda outcome: outcome[0])
    part.lost_some = lost
    if lost is not None and credit == 0:
        raise lost
    return credit


def _decided(part: Part, tried: str, flat: list, ids: list, known: dict | None) -> tuple[float, PointsLost | None]:
    called: dict[str, list[bool]] = {}
    wanted = "True for the random texts, False for the others"
    for (kind, _), text in zip(flat, ids, strict=True):
        try:
            returned = part.call(tried, "classifier.py", "classification", GPT2, text[None], likelihoods=known)
        except PointsLost as lost:
            return 0.0, lost
        number = returned.number()
        if number not in (0.0, 1.0):
            hint = diagnosis.hint(("not a decision",))
            return 0.0, PointsLost(
                tried, wanted, returned.described(), hint, "classification must return True or False"
            )
        called.setdefault(kind, []).append(number == 1.0)
    shares = {kind: float(np.mean(values)) for kind, values in called.items()}
    credit = max(0.0, shares["random"] - max(shares["plays"], shares["papers"]))
    if credit == 1:
        return credit, None
    came = "called random: " + ", ".join(f"{share:.0%} of {kind}" for kind, share in shares.items())
    hint = diagnosis.hint(diagnosis.decisions(shares))
    return credit, PointsLost(tried, wanted, came, hint, "some decisions are wrong")


def decision_type(part: Part, text: str) -> None:
    """`classification` returns True or False themselves, and leaves the model as it was."""
    (ids,) = part.sandbox.encode([text])
    try:
        _check_decision(part, ids, None)
    except PointsLost:  # perhaps only because of the student's own `log_likelihood`, which is part 6.4
        part.start_afresh()
        _check_decision(part, ids, {tuple(ids.tolist()): oracle.log_likelihood(part.sandbox.logits(ids[None])[0], ids)})


def _check_decision(part: Part, ids: np.ndarray, known: dict | None) -> None:
    tried = "classification of one text"
    returned = part.call(tried, "classifier.py", "classification", GPT2, ids[None], likelihoods=known, watch=True)
    if returned.model_changed:
        part.lose(tried, "that the model is as before", "the model was changed", reason="the model was changed")
    if not (returned.kind == "plain" and type(returned.value) is bool):
        mistakes = ("not a bool",) if returned.number() in (0.0, 1.0) else ("not a decision",)
        part.lose(tried, "a Python bool", returned.described(), mistakes, "the result is not a Python bool")


# --- submit/ ---


def artifacts(part: Part) -> None:
    """`submit/` is complete, readable, and made by the code that was handed in."""
    root = part.submission.questions.parent
    tried = "reading submit/, as make_submission.sh packs it"
    try:
        problems = artifact_problems(root, ROOT, "questions")
        record = read_record(root / "submit")
    except UserError as error:
        problems, record = [str(error)], {}
    problems = [printable(problem.replace(f"{root}{os.sep}", "")) for problem in problems]
    if not problems and record["made_with"].get("model") == part.sandbox.config.name:
        problems = _inconsistencies(part, root / "submit")
    if problems:
        part.lose(tried, "every file, made by the code that was handed in", "\n      ".join(problems[:12]))


def _inconsistencies(part: Part, submit: Path) -> list[str]:
    """Where some of the values in `submit` are not what the student's functions return now."""
    problems = []
    for name in DATASETS:
        stated = read_float_array(submit / f"{name}_raw.pkl")
        for i, ids in enumerate(part.sandbox.encode(read_pieces(ROOT / "data" / f"{name}.pkl")[:3])):
            returned = part.call(
                f"log_likelihood of text {i} of {name}", "likelihood.py", "log_likelihood", GPT2, ids[None]
            )
            number = returned.number()
            if number is None or not math.isclose(number, stated[i], rel_tol=1e-3, abs_tol=0.05):
                problems.append(
                    f"submit/{name}_raw.pkl: says {stated[i]:.2f} for text {i}, your code {returned.described()}"
                )
    decisions = read_plain(submit / CLASSIFICATION)
    for i, ids in enumerate(part.sandbox.encode(read_snippets(ROOT / "data" / "snippets.pkl")[:20])):
        returned = part.call(f"classification of snippet {i}", "classifier.py", "classification", GPT2, ids[None])
        if returned.kind != "plain" or returned.value is not decisions[i]:
            problems.append(f"submit/{CLASSIFICATION}: says {decisions[i]} for snippet {i}, your code does not")
    return problems


# --- 6.6 and 6.7 ---


def _logits(part: Part, tried: str, returned: Returned, logits: np.ndarray, untouched: bool) -> np.ndarray:
    """What `temperature_scale` returned, once it is a tensor of the right shape and left the caller's alone."""
    value = returned.value
    right_kind = returned.kind == "tensor" and isinstance(value, np.ndarray) and value.dtype.kind == "f"
    if not right_kind or value.shape != logits.shape:
        part.lose(
            tried,
            f"a tensor of logits of shape {logits.shape}",
            returned.described(),
            ("wrong shape",),
            "wrong shape or type",
        )
    if untouched and not np.array_equal(returned.tensors[0], logits):
        part.lose(
            tried,
            "that the caller's logits stay as they are",
            "they were changed",
            ("in place",),
            "the caller's logits were changed",
        )
    return value


def scaling(
    part: Part, model: TableModel, ids: np.ndarray, k: int, temperatures: Sequence[float], untouched: bool
) -> None:
    """`temperature_scale` with horizon 1 is right at each temperature, for the logits after `ids` (B, T)."""
    logits = _filtered(model.logits(ids)[:, -1], k)
    for temperature in temperatures:
        tried = f"temperature_scale of logits {logits.shape}, T = {temperature}, horizon 1"
        arguments = (logits, model.reference, model.past_of(ids), model.config(k), temperature, 1)
        returned = part.call(tried, "sample.py", "temperature_scale", *arguments, answer=model.answer)
        got = _logits(part, tried, returned, logits, untouched)
        expected = logits.astype(np.float64) / temperature
        if not diagnosis.same_distribution(got, expected):
            shown = [f"probabilities {numbers(np.sort(np.exp(log_softmax(x[0])))[::-1])}" for x in (expected, got)]
            mistakes = diagnosis.scaled(got, logits, temperature)
            if not mistakes and np.exp(log_softmax(got))[logits <= oracle.FILTERED].sum() > 1e-4:
                mistakes = ("filter lost",)
            part.lose(tried, shown[0], shown[1], mistakes, "the distribution is wrong")


def sampling_at_temperature(part: Part, model: TableModel, prompts: np.ndarray, k: int, temperature: float) -> None:
    """`sample` draws at the temperature; where it draws wrongly without one, too, that is for part 6.3 to say."""
    try:
        draws(part, model, prompts, k, temperature)
    except PointsLost as lost:
        if _draws_rightly(part, model, prompts, k):
            raise lost from None


def sampling_two_ahead(part: Part, model: TableModel, prompt: np.ndarray, k: int, temperature: float) -> None:
    """`sample` draws from the marginal of the scaled joint, after `prompt` (1, T); see `sampling_at_temperature`."""
    candidates, first, second = _candidates(model.logits, prompt, k)
    expected = np.zeros(model.vocab_size)
    expected[candidates] = np.exp(oracle.marginal(log_softmax(first), log_softmax(top_k(second, k)), temperature))

    tried = f"sample 1 token, {LOOK_AHEADS} times, at temperature {temperature}, horizon 2"
    try:
        drawn = _drawn_alone(part, tried, model, prompt, k, temperature, 2)
        counts = np.bincount(drawn, minlength=model.vocab_size)
        if not oracle.fits(counts, expected):
            shown = [f"frequencies {numbers(p, 20)}" for p in (expected, counts / counts.sum())]
            part.lose(tried, shown[0], shown[1], reason="sample does not draw as temperature_scale says")
    except PointsLost as lost:
        if _draws_rightly(part, model, prompt, k):
            raise lost from None


def _draws_rightly(part: Part, model: TableModel, prompts: np.ndarray, k: int) -> bool:
    """Whether `sample`, in a fresh process, draws rightly without a temperature: part 6.3's concern."""
    part.start_afresh()
    try:
        draws(part, model, prompts, k)
        draws_alone(part, model, prompts[:1], k)
    except PointsLost:
        return False
    return True


def no_scaling(part: Part, model: TableModel, ids: np.ndarray, k: int) -> None:
    """Without a temperature, `temperature_scale` returns the logits as they are; with one, the caller's stay."""
    logits = _filtered(model.logits(ids)[:, -1], k)
    for temperature in (None, 0.7):
        tried = f"temperature_scale of logits {logits.shape}, temperature={temperature}, horizon 1"
        arguments = (logits, model.reference, model.past_of(ids), model.config(k), temperature, 1)
        returned = part.call(tried, "sample.py", "temperature_scale", *arguments, answer=model.answer)
        got = _logits(part, tried, returned, logits, untouched=True)
        if temperature is None and not np.array_equal(np.maximum(got, np.float32(oracle.FILTERED)), logits):
            part.lose(
                tried, numbers(logits[0]), numbers(got[0]), reason="with temperature=None the logits were changed"
            )


def looking_ahead(part: Part, model: TableModel | None, ids: np.ndarray, k: int, temperatures: Sequence[float]) -> None:
    """`temperature_scale` with horizon 2 is the exact marginal of the scaled joint, after `ids` (1, T).

    `model` is a table model, or None for the bundled GPT-2.
    """
    answers = model.logits if model else part.sandbox.logits
    logits = _filtered(answers(ids)[:, -1], k)
    candidates, first, second = _candidates(answers, ids, k)
    alone = answers(candidates[:, None])[:, -1]
    for temperature in temperatures:
        tried = f"temperature_scale, T = {temperature}, horizon 2, {len(candidates)} candidates"
        reference, config, past = (
            (model.reference, model.config(k), model.past_of(ids))
            if model
            else (GPT2, GPT2_CONFIG, {"past_of": ids, **GPT2})
        )
        arguments = (logits, reference, past, config, temperature, 2)
        returned = part.call(tried, "sample.py", "temperature_scale", *arguments, answer=model and model.answer)
        got = _logits(part, tried, returned, logits, untouched=False)
        expected = np.full(logits.shape, -np.inf)
        expected[0, candidates] = oracle.marginal(log_softmax(first), log_softmax(top_k(second, k)), temperature)
        if not diagnosis.same_distribution(got, expected):
            mistakes = diagnosis.looked_ahead(got[0, candidates], first, second, alone, k, temperature)
            others = np.delete(got[0], candidates)
            if not mistakes and others.size and others.max() > got[0, candidates].max() - 20:
                mistakes = ("filter lost",)
            shown = [f"probabilities {numbers(np.exp(log_softmax(x))[0, candidates])}" for x in (expected, got)]
            part.lose(tried, shown[0], shown[1], mistakes, "the distribution is wrong")


def _candidates(answers: Callable[[np.ndarray], np.ndarray], ids: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
    """The top k after `ids` (1, T), (K,); their logits, (K,); what the model answers after each of them, (K, V)."""
    logits = top_k(answers(ids)[0, -1], k)
    candidates = np.flatnonzero(np.isfinite(logits))
    longer = np.concatenate((np.repeat(ids, len(candidates), axis=0), candidates[:, None]), axis=1)
    return candidates, logits[candidates], answers(longer)[:, -1]


def _filtered(logits: np.ndarray, k: int) -> np.ndarray:
    """Logits as `top_k_logits` leaves them, float32."""
    kept = np.isfinite(top_k(logits, k))
    return np.where(kept, logits, np.float32(oracle.FILTERED)).astype(np.float32)
