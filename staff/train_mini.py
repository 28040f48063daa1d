"""Train the bundled model, `checkpoints/gpt2-mini/`, on a corpus of abstracts and a corpus of plays.

    python -m staff.train_mini --abstracts abstracts.jsonl.gz --plays plays.txt

A corpus is a `.jsonl` or `.jsonl.gz` file whose lines have an "abstract" (or "text"), or a plain text file, which is cut
between paragraphs into documents of about 3,000 characters. Every 20th document is held out: neither the vocabulary nor
the weights ever see it. The state is saved to `--work` every few minutes; the same command goes on where it was stopped.
At the end the weights (float16), the vocabulary, config.yml and the model card are written to `--out`.

It needs the development requirements (the `tokenizers` library learns the merges). bfloat16 arithmetic is used where the
processor has units for it; without them, expect a small fraction of the speed.
"""

import argparse
import dataclasses
import gzip
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm import tqdm

from src.codec import END_OF_TEXT, Codec, byte_characters, load_codec
from src.config import ROOT, CheckpointFiles, Config, RemoteFile
from src.gpt2 import GPT2

HELD_OUT_EVERY = 20
DOCUMENT_CHARACTERS = 3000


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One corpus, split; `path` is kept for its name and its hash."""

    path: Path
    train: list[str]
    held_out: list[str]


def read_corpus(path: Path) -> Corpus:
    """Read the documents of `path`, drop exact repetitions, and hold every 20th out."""
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        documents = [row["abstract" if "abstract" in row else "text"].strip() for row in rows]
    else:
        documents = list(_cut(path.read_text(encoding="utf-8-sig")))
    documents = list(dict.fromkeys(documents))
    train = [text for i, text in enumerate(documents) if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    return Corpus(path, train, documents[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY])


def _cut(text: str) -> Iterator[str]:
    """Cut `text` between paragraphs into documents of about `DOCUMENT_CHARACTERS`."""
    document = ""
    for paragraph in text.strip().split("\n\n"):
        if len(document) > DOCUMENT_CHARACTERS:
            yield document
            document = ""
        document += paragraph + "\n\n"
    yield document


def learn_vocabulary(texts: list[str], vocab_size: int, out: Path) -> Codec:
    """Learn byte-pair merges on `texts` and write them as GPT-2's two files, ids in GPT-2's order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = list(byte_characters().values())
    # Some merges spell a token that an earlier one made; learn a few more than needed, since those are dropped below.
    trainer = trainers.BpeTrainer(vocab_size=vocab_size + 64, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    learnt = {"".join(pair): pair for pair in reversed(json.loads(tokenizer.to_str())["model"]["merges"])}
    merges = list(reversed(learnt.values()))[: vocab_size - 1 - len(alphabet)]
    tokens = alphabet + ["".join(pair) for pair in merges] + [END_OF_TEXT]
    encoder_file, merges_file = out / "encoder.json", out / "vocab.bpe"
    write_beside(encoder_file, json.dumps({token: i for i, token in enumerate(tokens)}).encode() + b"\n")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    write_beside(merges_file, ("\n".join(lines) + "\n").encode("utf-8"))
    return load_codec(encoder_file, merges_file)


def write_beside(file: Path, content: bytes) -> None:
    beside = file.with_name(file.name + ".part")
    beside.write_bytes(content)
    os.replace(beside, file)


def add_dropout(model: GPT2, rate: float) -> None:
    """While training, drop channels of the embedding and of what each sublayer adds to the residual stream.

    One mask serves all positions of a sequence (variational dropout, Gal and Ghahramani 2016): nearly free on a CPU.
    """

    def drop(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if not module.training:
            return output
        return output * F.dropout(output.new_ones(output.size(0), 1, output.size(2)), rate)

    for block in model.transformer.h:
        block.attn.c_proj.register_forward_hook(drop)
        block.mlp.c_proj.register_forward_hook(drop)
    model.transformer.wte.register_forward_hook(drop)


def crops(streams: list[Tensor], shares: list[float], batch: int, length: int, seed: int, step: int) -> Tensor:
    """The batch of a step, (batch, length): random pieces of the streams. A pure function of seed and step."""
    rng = np.random.default_rng((seed, step))
    rows = []
    for which in rng.choice(len(streams), size=batch, p=shares):
        start = rng.integers(len(streams[which]) - length)
        rows.append(streams[which][start : start + length])
    return torch.stack(rows)


def make_optimizers(model: GPT2, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the embeddings and for everything that is no matrix."""
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
    """The learning rate's factor: a linear warm-up, then linearly to nothing."""
    return min((step + 1) / warmup, (steps - step) / (steps - warmup))


@torch.inference_mode()
def nats_per_character(model: GPT2, codec: Codec, texts: list[str], n_ctx: int) -> float:
    """Mean negative log-likelihood of `texts`, each after an `END_OF_TEXT`, in windows that overlap by half."""
    model.eval()
    nats, stride = 0.0, n_ctx // 2
    for text in texts:
        ids = torch.cat((torch.tensor([[codec.end_of_text]]), codec.encode(text)), dim=1)
        done = 1  # tokens whose likelihood is counted already; the first is only context
        for start in range(0, max(1, ids.size(1) - stride), stride):
            window = ids[:, start : start + n_ctx]
            logits, _ = model(window[:, :-1])
            skip = done - start - 1
            nats += F.cross_entropy(logits[0, skip:].float(), window[0, 1 + skip :], reduction="sum").item()
            done = start + window.size(1)
    model.train()
    return nats / sum(map(len, texts))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--abstracts", type=Path, required=True, help="corpus of abstracts")
    parser.add_argument("--plays", type=Path, required=True, help="corpus of plays")
    parser.add_argument("--plays-share", type=float, default=0.25, help="share of plays in the batches (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "checkpoints" / "gpt2-mini", help="where the model goes")
    parser.add_argument("--work", type=Path, default=ROOT / ".train", help="where state and log go (%(default)s)")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--n-embd", type=int, default=384)
    parser.add_argument("--n-layer", type=int, default=4)
    parser.add_argument("--n-head", type=int, default=6)
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16, help="sequences of n-ctx tokens a step (%(default)s)")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--warmup", type=int, default=100, help="steps (%(default)s)")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=20190929)
    parser.add_argument("--compile", action="store_true", help="torch.compile the step (needs a C++ compiler)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    corpora = {"abstracts": read_corpus(args.abstracts), "plays": read_corpus(args.plays)}
    if (args.out / "vocab.bpe").exists() and (args.work / "state.pt").exists():
        codec = load_codec(args.out / "encoder.json", args.out / "vocab.bpe")
    else:
        codec = learn_vocabulary([t for c in corpora.values() for t in c.train], args.vocab_size, args.out)
    streams, shares = [], [1 - args.plays_share, args.plays_share]
    for name, corpus in corpora.items():
        order = np.random.default_rng(args.seed).permutation(len(corpus.train))
        end = torch.tensor([codec.end_of_text])
        streams.append(torch.cat([part for i in order for part in (codec.encode(corpus.train[i])[0], end)]))
        tqdm.write(
            f"{name}: {len(corpus.train)} documents, {len(streams[-1]):,} tokens, {len(corpus.held_out)} held out"
        )

    config = mini_config(args)
    model = GPT2(config)
    add_dropout(model, args.dropout)
    optimizers = make_optimizers(model, args.lr, args.weight_decay)
    state_file, first, seconds = args.work / "state.pt", 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first, seconds = state["step"], state["seconds"]

    def loss_of(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, _ = model(batch[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())

    def save(step: int) -> None:
        state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
        torch.save({**state, "step": step, "seconds": seconds}, state_file.with_suffix(".part"))
        os.replace(state_file.with_suffix(".part"), state_file)

    step_loss = torch.compile(loss_of) if args.compile else loss_of
    rates = [[group["lr"] for group in o.param_groups] for o in make_optimizers(model, args.lr, args.weight_decay)]
    log = (args.work / "log.jsonl").open("a", encoding="utf-8")
    recent, last_save = [], time.monotonic()
    progress = tqdm(range(first, args.steps), initial=first, total=args.steps, desc="training", mininterval=10)
    for step in progress:
        began = time.monotonic()
        torch.manual_seed(args.seed + step)  # dropout is a function of the step, too
        for optimizer, initial in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, initial, strict=True):
                group["lr"] = rate * schedule(step, args.steps, args.warmup)
        loss = step_loss(crops(streams, shares, args.batch, args.n_ctx + 1, args.seed, step))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        recent.append(loss.item())
        seconds += time.monotonic() - began
        if not math.isfinite(recent[-1]):
            sys.exit(f"step {step}: the loss is {recent[-1]}; lower --lr and start with an empty --work")
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            held_out = {n: nats_per_character(model, codec, c.held_out, args.n_ctx) for n, c in corpora.items()}
            row = {"step": step + 1, "seconds": round(seconds), "loss": float(np.mean(recent)), **held_out}
            log.write(json.dumps(row) + "\n")
            log.flush()
            tqdm.write(json.dumps(row))
            recent = []
        if time.monotonic() - last_save > 180 or step + 1 == args.steps:
            save(step + 1)
            last_save = time.monotonic()
        progress.set_postfix(loss=f"{loss.item():.3f}")


def mini_config(args: argparse.Namespace) -> Config:
    files = CheckpointFiles((RemoteFile("model.safetensors"),), RemoteFile("encoder.json"), RemoteFile("vocab.bpe"))
    return Config(
        seed=args.seed,
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


if __name__ == "__main__":
    main()
