"""Train the bundled model, `checkpoints/gpt2-mini/`, on a corpus of abstracts and a corpus of plays.

    python -m staff.train_mini --abstracts abstracts.jsonl.gz --plays plays.txt

A corpus is a `.jsonl` or `.jsonl.gz` file whose lines have an "abstract" (or "text"), each a document; or a plain text
file, which is cut between paragraphs into passages of about 1,000 characters. Every 20th document or passage is held
out: neither the vocabulary nor the weights depend on it. A held-out passage is scored given the text before it.

The state is saved to `--work` every few minutes, and the same command continues from there. At the end the weights
(float16), the vocabulary, config.yml and the model card are written to `--out`.

It needs the development requirements: the `tokenizers` library learns the merges. It computes in bfloat16, which is
fast on processors that support it and several times slower on others.
"""

import argparse
import dataclasses
import gzip
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from src.files import ROOT, write_file
from src.model.checkpoint import Files, load
from src.model.codec import END_OF_TEXT, Codec, byte_characters, load_codec
from src.model.config import BUNDLED, CheckpointFiles, Config, RemoteFile, load_config
from src.model.gpt2 import GPT2

MODEL_CARD = ROOT / "staff" / "model_card.md"
WEIGHTS, ENCODER, MERGES, CONFIG = "model.safetensors", "encoder.json", "vocab.bpe", "config.yml"
HELD_OUT_EVERY = 20
PASSAGE_CHARACTERS = 1000
SCORE_EVERY = 250  # steps


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One corpus, split. The text before a held-out text is its context, and is not scored."""

    path: Path
    train: list[str]
    held_out: list[tuple[str, str]]  # (context, text)


def read_corpus(path: Path) -> Corpus:
    """The corpus at `path` without exact repetitions; every 20th document or passage is held out."""
    return _read_documents(path) if path.name.endswith((".jsonl", ".jsonl.gz")) else _read_passages(path)


def _read_documents(path: Path) -> Corpus:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    documents = list(dict.fromkeys(row["abstract" if "abstract" in row else "text"].strip() for row in rows))
    train = [text for i, text in enumerate(documents, start=1) if i % HELD_OUT_EVERY]
    return Corpus(path, train, [("", text) for text in documents[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]])


def _read_passages(path: Path) -> Corpus:
    passages = list(dict.fromkeys(_passages(path.read_text(encoding="utf-8-sig"))))
    train: list[str] = []
    held_out: list[tuple[str, str]] = []
    for start in range(0, len(passages), HELD_OUT_EVERY):
        run = passages[start : start + HELD_OUT_EVERY]
        if len(run) == HELD_OUT_EVERY:
            held_out.append(("".join(run[-4:-1]), run.pop()))
        train.append("".join(run))
    return Corpus(path, train, held_out)


def _passages(text: str) -> Iterator[str]:
    """Cut `text` between paragraphs into passages of about `PASSAGE_CHARACTERS`."""
    passage = ""
    for paragraph in text.strip().split("\n\n"):
        passage += paragraph + "\n\n"
        if len(passage) > PASSAGE_CHARACTERS:
            yield passage
            passage = ""
    if passage:
        yield passage


def learn_vocabulary(texts: list[str], vocab_size: int, out: Path) -> Codec:
    """Learn byte-pair merges from `texts`, and write them as GPT-2's two files, with the ids in GPT-2's order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = list(byte_characters().values())
    # Two merges may make the same token. Only the first is kept below, so learn a few more than needed.
    trainer = trainers.BpeTrainer(vocab_size=vocab_size + 64, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    learned = {"".join(pair): pair for pair in reversed(json.loads(tokenizer.to_str())["model"]["merges"])}
    merges = list(reversed(learned.values()))[: vocab_size - 1 - len(alphabet)]
    tokens = alphabet + ["".join(pair) for pair in merges] + [END_OF_TEXT]
    encoder_file, merges_file = out / ENCODER, out / MERGES
    write_file(encoder_file, json.dumps({token: i for i, token in enumerate(tokens)}).encode() + b"\n")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    write_file(merges_file, ("\n".join(lines) + "\n").encode("utf-8"))
    return load_codec(encoder_file, merges_file)


def add_dropout(model: GPT2, rate: float) -> None:
    """Have training drop channels of the embedding and of the output of each sublayer.

    All positions of a sequence share one mask (variational dropout, Gal and Ghahramani 2016), which costs little on a
    CPU.
    """

    def drop(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        return output * F.dropout(output.new_ones(output.size(0), 1, output.size(2)), rate)

    for block in model.transformer.h:
        block.attn.c_proj.register_forward_hook(drop)
        block.mlp.c_proj.register_forward_hook(drop)
    model.transformer.wte.register_forward_hook(drop)


def stream(texts: list[str], codec: Codec, seed: int) -> Tensor:
    """The token ids (N,) of all `texts` in a random order, each text followed by `END_OF_TEXT`."""
    order = np.random.default_rng(seed).permutation(len(texts))
    end = torch.tensor([codec.end_of_text])
    return torch.cat([part for i in order for part in (codec.encode(texts[i])[0], end)])


def crops(streams: Sequence[Tensor], shares: Sequence[float], batch: int, length: int, seed: int, step: int) -> Tensor:
    """The batch (batch, length) of a step: random pieces of the streams, which depend only on seed and step."""
    rng = np.random.default_rng((seed, step))
    rows = []
    for which in rng.choice(len(streams), size=batch, p=shares):
        start = rng.integers(len(streams[which]) - length)
        rows.append(streams[which][start : start + length])
    return torch.stack(rows)


def with_noise(ids: Tensor, rate: float) -> Tensor:
    """`ids` with a share `rate` of them replaced by others of the batch, which regularises (Xie et al. 2017)."""
    others = ids.flatten()[torch.randint(ids.numel(), ids.shape)]
    return torch.where(torch.rand(ids.shape) < rate, others, ids)


def make_optimizers(model: GPT2, lr: float, weight_decay: float) -> list[Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the embeddings, the biases and the normalisations."""
    matrices = [p for p in model.transformer.h.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim == 2], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True),
    ]


def schedule(step: int, steps: int, warmup: int) -> float:
    """The factor of the learning rate: linear warm-up, then linear decay to zero."""
    return min((step + 1) / warmup, (steps - step) / (steps - warmup))


@torch.inference_mode()
def nats_per_character(model: GPT2, codec: Codec, held_out: list[tuple[str, str]], n_ctx: int) -> float:
    """Mean negative log-likelihood of the held-out texts; each token is given all before it, or 7/8 of `n_ctx`."""
    model.eval()
    nats, end_of_text = 0.0, torch.tensor([[codec.end_of_text]])
    for context, text in held_out:
        known = torch.cat((end_of_text, codec.encode(context)), dim=1)
        ids = torch.cat((known, codec.encode(text)), dim=1)
        start = known.size(1)
        while start < ids.size(1):
            stop = min(max(start + n_ctx // 8, n_ctx + 1), ids.size(1))
            window = ids[:, max(0, stop - n_ctx - 1) : stop]
            logits, _ = model(window[:, :-1])
            nats += F.cross_entropy(logits[0, start - stop :].float(), ids[0, start:stop], reduction="sum").item()
            start = stop
    model.train()
    return nats / sum(len(text) for _, text in held_out)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--abstracts", type=Path, required=True, help="corpus of abstracts")
    parser.add_argument("--plays", type=Path, required=True, help="corpus of plays")
    parser.add_argument("--plays-share", type=float, default=0.4, help="share of plays in the batches (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "checkpoints" / BUNDLED, help="where the model goes")
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".train", help="where the state and the log go (%(default)s)"
    )
    parser.add_argument("--vocab-size", type=int, default=6144)
    parser.add_argument("--plays-copies", type=int, default=6, help="weight of the plays for the merges (%(default)s)")
    parser.add_argument("--n-embd", type=int, default=384)
    parser.add_argument("--n-layer", type=int, default=4)
    parser.add_argument("--n-head", type=int, default=6)
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16, help="sequences of n-ctx tokens a step (%(default)s)")
    parser.add_argument("--steps", type=int, default=4750)
    parser.add_argument("--warmup", type=int, default=100, help="steps (%(default)s)")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1.2)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--noise", type=float, default=0.1, help="share of the input's tokens replaced (%(default)s)")
    parser.add_argument("--seed", type=int, default=20190929)
    parser.add_argument("--save-every", type=int, default=180, help="seconds between saves of the state (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="torch.compile the step (needs a C++ compiler)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    state_file = args.work / "state.pt"
    corpora = {"abstracts": read_corpus(args.abstracts), "plays": read_corpus(args.plays)}
    if state_file.exists():
        codec = load_codec(args.out / ENCODER, args.out / MERGES)
    else:
        texts = corpora["abstracts"].train + args.plays_copies * corpora["plays"].train
        codec = learn_vocabulary(texts, args.vocab_size, args.out)
    torch.manual_seed(args.seed)
    model = GPT2(mini_config(args, CheckpointFiles((), RemoteFile(""), RemoteFile(""))))
    seconds = train(args, model, codec, corpora, state_file)
    export(args, model, corpora, args.steps * args.batch * args.n_ctx, seconds)


def train(
    args: argparse.Namespace, model: GPT2, codec: Codec, corpora: Mapping[str, Corpus], state_file: Path
) -> float:
    """Train `model` from the state in `state_file`, or from the start; the seconds that it took in all."""
    streams = [stream(corpus.train, codec, args.seed) for corpus in corpora.values()]
    for (name, corpus), tokens in zip(corpora.items(), streams, strict=True):
        print(f"{name}: {len(corpus.train)} texts, {len(tokens):,} tokens, {len(corpus.held_out)} held out")
    add_dropout(model, args.dropout)
    optimizers = make_optimizers(model, args.lr, args.weight_decay)
    first, seconds = load_state(state_file, model, optimizers) if state_file.exists() else (0, 0.0)
    loss_of = torch.compile(loss_function(model)) if args.compile else loss_function(model)
    recent: list[float] = []
    last_save = time.monotonic()
    progress = tqdm(range(first, args.steps), initial=first, total=args.steps, desc="training", mininterval=10)
    for step in progress:
        is_last = step + 1 == args.steps
        began = time.monotonic()
        recent.append(take_step(args, step, streams, loss_of, model, optimizers))
        seconds += time.monotonic() - began
        if not math.isfinite(recent[-1]):
            sys.exit(f"step {step}: the loss is {recent[-1]}; lower --lr and start with an empty --work")
        progress.set_postfix(loss=f"{recent[-1]:.3f}")
        if (step + 1) % SCORE_EVERY == 0 or is_last:
            scores = {n: nats_per_character(model, codec, c.held_out, args.n_ctx) for n, c in corpora.items()}
            row = {"step": step + 1, "seconds": round(seconds), "loss": float(np.mean(recent)), **scores}
            log_row(args.work / "log.jsonl", row)
            recent = []
        if time.monotonic() - last_save > args.save_every or is_last:
            save_state(state_file, model, optimizers, step + 1, seconds)
            last_save = time.monotonic()
    return seconds


def loss_function(model: GPT2) -> Callable[[Tensor, Tensor], Tensor]:
    """A function from input and target ids (B, T) to the mean loss of `model`."""

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, _ = model(inputs)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return loss_of


def take_step(
    args: argparse.Namespace, step: int, streams: Sequence[Tensor], loss_of: Callable[[Tensor, Tensor], Tensor],
    model: GPT2, optimizers: Sequence[Optimizer],
) -> float:  # fmt: skip
    """Take one step of the optimizers; returns the loss before it."""
    torch.manual_seed(args.seed + step)  # dropout and noise depend only on the step, so an interrupted run can continue
    shares = (1 - args.plays_share, args.plays_share)
    batch = crops(streams, shares, args.batch, args.n_ctx + 1, args.seed, step)
    loss = loss_of(with_noise(batch[:, :-1], args.noise), batch[:, 1:])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = args.lr * schedule(step, args.steps, args.warmup)
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def log_row(log_file: Path, row: Mapping[str, float]) -> None:
    """Print `row`, and append it to the log."""
    line = json.dumps(row)
    with log_file.open("a", encoding="utf-8") as log:
        log.write(line + "\n")
    tqdm.write(line)


def save_state(state_file: Path, model: GPT2, optimizers: Sequence[Optimizer], step: int, seconds: float) -> None:
    """Save everything that a later run needs to continue."""
    state = {"model": model.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
    beside = state_file.with_suffix(".part")
    torch.save({**state, "step": step, "seconds": seconds}, beside)
    os.replace(beside, state_file)


def load_state(state_file: Path, model: GPT2, optimizers: Sequence[Optimizer]) -> tuple[int, float]:
    """Load what `save_state` saved; the steps taken so far, and the seconds that they took."""
    state = torch.load(state_file, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        wanted = [group["weight_decay"] for group in optimizer.param_groups]
        optimizer.load_state_dict(saved)
        for group, weight_decay in zip(optimizer.param_groups, wanted, strict=True):
            group["weight_decay"] = weight_decay  # this run's --weight-decay, not that of the saved one
    return state["step"], state["seconds"]


def mini_config(args: argparse.Namespace, files: CheckpointFiles) -> Config:
    """The configuration of the model that the arguments describe."""
    return Config(
        seed=20190929,
        vocab_size=args.vocab_size,
        n_positions=args.n_ctx,
        n_ctx=args.n_ctx,
        n_embd=args.n_embd,
        n_layer=args.n_layer,
        n_head=args.n_head,
        layer_norm_epsilon=1e-5,
        initializer_range=0.02,
        top_k=40,
        checkpoint=files,
        name=args.out.name,
    )


def export(args: argparse.Namespace, model: GPT2, corpora: Mapping[str, Corpus], tokens: int, seconds: float) -> None:
    """Write the weights, config.yml and the model card to `--out`. The scores on the card are those of the files."""
    weights = {name: tensor.half().contiguous() for name, tensor in model.transformer.state_dict().items()}
    write_file(args.out / WEIGHTS, safetensors.torch.save(weights))
    remote = {name: remote_file(args.out / name) for name in (WEIGHTS, ENCODER, MERGES)}
    config = mini_config(args, CheckpointFiles((remote[WEIGHTS],), remote[ENCODER], remote[MERGES]))
    write_file(args.out / CONFIG, config_file(config))

    files = Files(args.out / WEIGHTS, args.out / ENCODER, args.out / MERGES, weights_sha256="")
    written, codec = load(load_config(args.out / CONFIG, config.name), files)
    rows = []
    for name, corpus in corpora.items():
        loss = nats_per_character(written, codec, corpus.held_out, args.n_ctx)
        characters = (sum(map(len, corpus.train)), sum(len(text) for _, text in corpus.held_out))
        rows.append(f"| {name} | {characters[0]:,} | {characters[1]:,} | {loss:.3f} |")
        print(f"{name}: {loss:.4f} nats per character held out")
    card = MODEL_CARD.read_text(encoding="utf-8").format(
        **{**vars(args), **vars(config)},
        parameters=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        megabytes=sum((args.out / name).stat().st_size for name in (WEIGHTS, ENCODER, MERGES, CONFIG)) / 1e6,
        tokens=tokens / 1e6,
        minutes=seconds / 60,
        least_context=args.n_ctx - args.n_ctx // 8,
        rows="\n".join(rows),
    )
    write_file(args.out / "README.md", card.encode("utf-8"))


def remote_file(path: Path) -> RemoteFile:
    """The file at `path`, as config.yml describes it."""
    content = path.read_bytes()
    return RemoteFile(path.name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def config_file(config: Config) -> bytes:
    """The content of config.yml."""
    values = dataclasses.asdict(config, dict_factory=lambda pairs: {k: v for k, v in pairs if v is not None})
    del values["name"]
    values["checkpoint"]["weights"] = list(values["checkpoint"]["weights"])
    head = f"# {config.name}: see README.md beside this file. Written by staff/train_mini.py.\n"
    return (head + yaml.safe_dump(values, sort_keys=False)).encode()


if __name__ == "__main__":
    main()
