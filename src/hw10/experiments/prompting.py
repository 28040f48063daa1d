"""Prompting: texts are classified by the probability of labels, and a soft prompt learns to form plurals."""

import csv
import io
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from src.errors import DataError, StudentCodeError
from src.files import shown
from src.hw10.networks.language import Language, LanguageModel, load_language
from src.hw10.plots import png
from src.hw10.run import Run
from src.hw10.tables import Row, table
from src.hw10.training import Stateful

FILE = "prompting.py"
TEXTS, NOUNS = "texts.csv", "nouns.csv"

SHOTS = (0, 1, 2, 4, 8)  # examples in the prompt
EXAMPLE, ANSWER_BEFORE = "{text} This is a {label}.\n", "{text} This is a"

VECTORS = 20  # of the soft prompt
HARD_SHOTS = (0, 1, 4)  # examples in the prompts of words
PLURAL, PLURAL_BEFORE = "Singular: {singular}\nPlural: {plural}\n\n", "Singular: {singular}\nPlural:"
EVERY = 20  # steps between two looks at the held-out nouns

# --- 1b: classification ---


@dataclass(frozen=True)
class Answer:
    """What the model made of one text."""

    is_right: bool
    confidence: float  # the probability of the chosen label, among the labels


def classify(run: Run) -> Mapping[str, bytes]:
    """Accuracy and confidence by the number of examples in the prompt, with their own labels and with shuffled ones."""
    language, texts = load_language(run.lm, run.device), read_rows(run.data / TEXTS, ("text", "label", "use"))
    function = run.function(FILE, "label_log_likelihood")
    conditions = [(shots, kind) for shots in SHOTS for kind in ("own", "shuffled") if shots > 1 or kind == "own"]
    rows: list[Row] = []
    for shots, kind in run.progress(conditions, "prompting", "prompt"):
        answers = []
        for draw in range(run.training("prompting").seeds if shots else 1):
            prompt = _examples(texts, shots, kind == "shuffled", random.Random(f"{run.seed} {draw}"))
            answers.append(_answers(run, language, function, prompt, texts))
        rows.append({"shots": shots, "labels": kind, **_figures(answers)})
    return {"prompting.png": _classification_picture(language, rows), "prompting.csv": table(rows)}


def _examples(texts: Sequence[Mapping[str, str]], shots: int, is_shuffled: bool, rng: random.Random) -> str:
    """The beginning of a prompt: texts with their labels, as many of each, or with these labels shuffled."""
    pool = [row for row in texts if row["use"] == "shot"]
    rng.shuffle(pool)
    by_label = [[row for row in pool if row["label"] == label] for label in dict.fromkeys(row["label"] for row in pool)]
    chosen = [row for rows in zip(*by_label, strict=False) for row in rows][:shots]
    rng.shuffle(chosen)
    labels = [row["label"] for row in chosen]
    if is_shuffled:
        rng.shuffle(labels)
    pairs = zip(chosen, labels, strict=True)
    return "".join(EXAMPLE.format(text=row["text"], label=label) for row, label in pairs)


def _answers(
    run: Run, language: Language, function: Callable[..., Any], beginning: str, texts: Sequence[Mapping[str, str]]
) -> list[Answer]:
    """The model's answer to each text that is no example."""
    labels = sorted({row["label"] for row in texts})
    answers = []
    for row in texts:
        if row["use"] == "test":
            prompt = language.ids(beginning + ANSWER_BEFORE.format(text=row["text"]))
            values = [_label_value(run, function, language, prompt, label) for label in labels]
            shares = np.exp(np.array(values) - np.logaddexp.reduce(values))
            best = int(shares.argmax())
            answers.append(Answer(labels[best] == row["label"], float(shares[best])))
    return answers


def _label_value(run: Run, function: Callable[..., Any], language: Language, prompt: Tensor, label: str) -> float:
    value = function(language.model, prompt, language.ids(f" {label}"))
    if type(value) is not float or not math.isfinite(value):
        raise run.wrong_value(FILE, "label_log_likelihood", value, "a finite Python float")
    return value


def _figures(draws: Sequence[Sequence[Answer]]) -> Row:
    """Accuracy with its standard error over the draws of examples, and mean confidence when right and when wrong."""
    accuracies = np.array([np.mean([answer.is_right for answer in answers]) for answers in draws])
    error = accuracies.std(ddof=1) / math.sqrt(len(draws)) if len(draws) > 1 else math.nan
    right, wrong = (
        [answer.confidence for answers in draws for answer in answers if answer.is_right == is_right]
        for is_right in (True, False)
    )
    return {
        "accuracy": float(accuracies.mean()),
        "standard_error": float(error),
        "confidence_when_right": float(np.mean(right)) if right else math.nan,
        "confidence_when_wrong": float(np.mean(wrong)) if wrong else math.nan,
    }


def _classification_picture(language: Language, rows: Sequence[Row]) -> bytes:
    figure = Figure(figsize=(9.0, 3.9), layout="constrained")
    accuracy, confidence = figure.subplots(1, 2)
    places = {shots: place for place, shots in enumerate(SHOTS)}
    for kind, style in (("own", "o-"), ("shuffled", "s--")):
        chosen = [row for row in rows if row["labels"] == kind or int(row["shots"]) < 2]
        xs = [places[int(row["shots"])] for row in chosen]
        accuracy.errorbar(
            xs, [100 * float(row["accuracy"]) for row in chosen],
            yerr=[100 * np.nan_to_num(float(row["standard_error"])) for row in chosen],
            fmt=style, capsize=3, label=f"{kind} labels",
        )  # fmt: skip
    own = [row for row in rows if row["labels"] == "own"]
    for name, style in (("right", "o-"), ("wrong", "x--")):
        ys = [float(row[f"confidence_when_{name}"]) for row in own]
        confidence.plot([places[int(row["shots"])] for row in own], ys, style, label=f"when {name}")
    accuracy.axhline(50, color="0.7", linewidth=1)
    accuracy.set(ylabel="right answers (%)", ylim=(0, 103), title=f"Accuracy of {language.title}")
    confidence.set(ylabel="probability of its answer", ylim=(0.45, 1.02), title="Is it surer when it is right?")
    for axes in (accuracy, confidence):
        axes.set_xticks(list(places.values()), [str(shots) for shots in places])
        axes.set_xlabel("examples in the prompt")
        axes.legend(frameon=False, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


# --- 1d: a soft prompt ---


@dataclass(frozen=True)
class Nouns:
    """Nouns as token ids, filled up at the end, and what must follow them."""

    ids: Tensor  # (N, T)
    last: Tensor  # (N,), the place of each text's last token
    plurals: Tensor  # (N,), the first token of each plural

    def __len__(self) -> int:
        return len(self.ids)

    def chosen(self, rows: Tensor) -> "Nouns":
        """Some of them."""
        return Nouns(self.ids[rows], self.last[rows], self.plurals[rows])


def soft_prompt(run: Run) -> Mapping[str, bytes]:
    """A soft prompt that is trained through the frozen model, beside prompts of words, on nouns that it never saw."""
    language, rows = load_language(run.lm, run.device), read_rows(run.data / NOUNS, ("singular", "plural", "use"))
    train, test = (_nouns(language, [row for row in rows if row["use"] == use]) for use in ("train", "test"))
    hard = [_hard_row(language, rows, shots, test) for shots in run.progress(HARD_SHOTS, "words", "prompt")]
    history, answers = _train(run, language, train, test)
    soft = [
        _row(language, f"soft, {VECTORS} vectors, {what}", answers[what], nouns)
        for what, nouns in (("held-out nouns", test), ("training nouns", train))
    ]
    picture = _soft_picture(language, history, [*hard, soft[0]])
    return {"soft_prompt.png": picture, "soft_prompt.csv": table([*hard, *soft])}


def _nouns(language: Language, rows: Sequence[Mapping[str, str]]) -> Nouns:
    texts = [language.ids(f" {row['singular']}:")[0] for row in rows]
    last = torch.tensor([len(ids) - 1 for ids in texts], device=language.device)
    plurals = torch.cat([language.ids(f" {row['plural']}")[0, :1] for row in rows])
    return Nouns(nn.utils.rnn.pad_sequence(texts, batch_first=True), last, plurals)


def _hard_row(language: Language, rows: Sequence[Mapping[str, str]], shots: int, test: Nouns) -> Row:
    """How a prompt of words with `shots` examples does on the held-out nouns."""
    examples = [row for row in rows if row["use"] == "train"][:shots]
    beginning = "".join(PLURAL.format(**row) for row in examples)
    answers = []
    with torch.inference_mode():
        for row in rows:
            if row["use"] == "test":
                text = beginning + PLURAL_BEFORE.format(**row)
                answers.append(language.model(language.ids(text))[0, -1].argmax())
    return _row(language, f"words, {shots} example{'' if shots == 1 else 's'}", torch.stack(answers), test)


def _row(language: Language, name: str, answers: Tensor, nouns: Nouns) -> Row:
    """How often the `answers` (N,) are right, and the commonest of those that are not."""
    wrong = Counter(answers[answers != nouns.plurals].tolist()).most_common(1)
    return {
        "prompt": name,
        "right": int((answers == nouns.plurals).sum()),
        "of": len(nouns),
        "commonest_wrong_answer": repr(language.decode(wrong[0][0])) if wrong else "",
    }


def _train(run: Run, language: Language, train: Nouns, test: Nouns) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """Train a soft prompt; the course of the training, and the trained prompt's answers."""
    training, model = run.training("prompting"), language.model
    spread = model.embed(train.ids).std().item()
    prompt = nn.Parameter(spread * torch.randn(VECTORS, model.embed(train.ids).size(-1), device=run.device))
    adam = torch.optim.Adam(_trained(run, model, prompt), lr=training.learning_rate)
    state: dict[str, Stateful] = {"prompt": nn.ParameterList([prompt]), "adam": adam}
    with run.loop("soft_prompt", FILE, training.iterations, state, vectors=VECTORS) as loop:
        for step in loop:
            batch = train.chosen(torch.randint(len(train), (training.batch_size,)))
            loss = F.cross_entropy(_logits(run, model, prompt, batch), batch.plurals)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            loop.record(loss=loss.item())
            if step % EVERY == 0 or step == training.iterations - 1:
                with torch.no_grad():
                    logits = _logits(run, model, prompt, test)
                held_out = F.cross_entropy(logits, test.plurals)
                loop.record(seen_at=step, held_out_loss=held_out.item())
    with torch.no_grad():
        found = {
            what: _logits(run, model, prompt, nouns).argmax(dim=-1)
            for what, nouns in (("held-out nouns", test), ("training nouns", train))
        }
    return loop.history, found


def _trained(run: Run, model: LanguageModel, prompt: nn.Parameter) -> list[nn.Parameter]:
    """What the student's function says is to be trained, which must be the prompt alone."""
    found = run.function(FILE, "parameters_to_train")(model, prompt)
    if isinstance(found, Tensor) or not isinstance(found, Iterable):
        raise run.wrong_value(FILE, "parameters_to_train", found, "a list of the soft prompt alone")
    parameters = list(found)
    if len(parameters) != 1 or parameters[0] is not prompt or not prompt.requires_grad:
        problem = f"{len(parameters)} things, but must return a list of the soft prompt alone, which stays trainable"
        raise StudentCodeError(f"{run.questions / FILE}: parameters_to_train returned {problem}")
    if trainable := sum(each.requires_grad for each in model.parameters()):
        problem = f"{trainable} of the model's parameters trainable, but must freeze all of them"
        raise StudentCodeError(f"{run.questions / FILE}: parameters_to_train left {problem}")
    return parameters


def _logits(run: Run, model: LanguageModel, prompt: Tensor, nouns: Nouns) -> Tensor:
    """What the student's function says of the token after each noun, (N, V)."""
    logits = run.function(FILE, "soft_prompt_logits")(model, prompt, nouns.ids)
    is_right = isinstance(logits, Tensor) and logits.dim() == 3 and logits.shape[:2] == nouns.ids.shape
    if not is_right or not logits.is_floating_point():
        expected = f"logits of shape {(*nouns.ids.shape, 'V')}".replace("'", "")
        raise run.wrong_value(FILE, "soft_prompt_logits", logits, expected)
    if torch.is_grad_enabled() and not logits.requires_grad:
        raise run.wrong_value(
            FILE, "soft_prompt_logits", logits, "logits through which gradients reach the soft prompt"
        )
    of_last: Tensor = logits[torch.arange(len(nouns), device=logits.device), nouns.last]
    return of_last


def _soft_picture(language: Language, history: Mapping[str, Sequence[float]], rows: Sequence[Row]) -> bytes:
    figure = Figure(figsize=(9.0, 3.9), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    losses.plot(history["loss"], linewidth=0.8, alpha=0.7, label="training nouns, a batch")
    losses.plot(history["seen_at"], history["held_out_loss"], "o-", markersize=3, label="held-out nouns")
    losses.set(xlabel="step", ylabel="loss (nats)", title=f"A soft prompt for {language.title}", ylim=(0, None))
    losses.legend(frameon=False)
    names = [str(row["prompt"]).replace(", held-out nouns", "").replace(", ", "\n", 1) for row in rows]
    bars = accuracy.bar(names, [int(row["right"]) for row in rows], color=["0.6"] * (len(rows) - 1) + ["C0"])
    accuracy.bar_label(bars)
    accuracy.set(ylabel=f"right plurals of {rows[0]['of']}", title="On nouns that no prompt contains", ylim=(0, 32))
    for axes in (losses, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with these columns.

    Raises:
        DataError: it is missing, or another table.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{shown(path)}: cannot be read ({why}); restore it from the starter code") from None
    if not rows or any(set(row) != set(columns) or None in row.values() for row in rows):
        raise DataError(f"{shown(path)}: must have the columns {', '.join(columns)}, and rows; restore it")
    return rows
