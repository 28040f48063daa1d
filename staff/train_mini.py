"""Train the bundled model, `checkpoints/gpt2-mini/`, on a corpus of abstracts and a corpus of plays.

    python -m staff.train_mini --abstracts abstracts.jsonl.gz --plays plays.txt

A corpus is a `.jsonl` or `.jsonl.gz` file whose lines have an "abstract" (or "text"), each a document; or a plain text
file, which is cut between paragraphs into passages of about 1,000 characters. Every 20th document or passage is held
out: neither the vocabulary nor the weights ever see it. A held-out passage is scored given the text before it.

The state is saved to `--work` every few minutes, and the same command goes on from there. At the end the weights
(float16), the vocabulary, config.yml and the model card are written to `--out`.

It needs the development requirements: the `tokenizers` library learns the merges. bfloat16 arithmetic is used, which is
fast where the processor has units for it and takes a multiple of the time elsewhere.
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
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm import tqdm

from src.artifacts import write_file
from src.checkpoint import Files, load
from src.codec import END_OF_TEXT, Codec, byte_characters, load_codec
from src.config import ROOT, CheckpointFiles, Config, RemoteFile, load_config
from src.gpt2 import GPT2

MODEL_CARD = ROOT / "staff" / "model_card.md"
WRITTEN = ("model.safetensors", "encoder.json", "vocab.bpe", "config.yml")
HELD_OUT_EVERY = 20
PASSAGE_CHARACTERS = 1000


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One corpus, split. A held-out text comes with the text before it, which is only context to its score."""

    path: Path
    train: list[str]
    held_out: list[tuple[str, str]]  # (context, text)


def read_corpus(path: Path) -> Corpus:
    """Read the corpus at `path`, drop exact repetitions, and hold every 20th document or passage out."""
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        documents = list(dict.fromkeys(row["abstract" if "abstract" in row else "text"].strip() for row in rows))
        train = [text for i, text in enumerate(documents, start=1) if i % HELD_OUT_EVERY]
        return Corpus(path, train, [("", text) for text in documents[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]])
    passages = list(dict.fromkeys(_passages(path.read_text(encoding="utf-8-sig"))))
    train, held_out = [], []
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
    write_file(encoder_file, json.dumps({token: i for i, token in enumerate(tokens)}).encode() + b"\n")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    write_file(merges_file, ("\n".join(lines) + "\n").encode("utf-8"))
    return load_codec(encoder_file, merges_file)


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


def stream(texts: list[str], codec: Codec, seed: int) -> Tensor:
    """All `texts` in a random order as one sequence of token ids, (N,), each followed by `END_OF_TEXT`."""
    order = np.random.default_rng(seed).permutation(len(texts))
    end = torch.tensor([codec.end_of_text])
    return torch.cat([part for i in order for part in (codec.encode(texts[i])[0], end)])


def crops(streams: list[Tensor], shares: list[float], batch: int, length: int, seed: int, step: int) -> Tensor:
    """The batch of a step, (batch, length): random pieces of the streams. A pure function of seed and step."""
    rng = np.random.default_rng((seed, step))
    rows = []
    for which in rng.choice(len(streams), size=batch, p=shares):
        start = rng.integers(len(streams[which]) - length)
        rows.append(streams[which][start : start + length])
    return torch.stack(rows)


def with_noise(ids: Tensor, rate: float) -> Tensor:
    """`ids` with a share `rate` of them replaced by others of the batch: smooths, as in Xie et al. 2017."""
    others = ids.flatten()[torch.randint(ids.numel(), ids.shape)]
    return torch.where(torch.rand(ids.shape) < rate, others, ids)


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
def nats_per_character(model: GPT2, codec: Codec, held_out: list[tuple[str, str]], n_ctx: int) -> float:
    """Mean negative log-likelihood of the held-out texts, each token given all that precedes it, or 7/8 of `n_ctx`."""
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
    parser.add_argument("--out", type=Path, default=ROOT / "checkpoints" / "gpt2-mini", help="where the model goes")
    parser.add_argument("--work", type=Path, default=ROOT / ".train", help="where state and log go (%(default)s)")
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
        codec = load_codec(args.out / "encoder.json", args.out / "vocab.bpe")
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
    """Train `model` from the state in `state_file`, or from the start; return the seconds that it took in all."""
    streams = [stream(corpus.train, codec, args.seed) for corpus in corpora.values()]
    shares = [1 - args.plays_share, args.plays_share]
    for (name, corpus), tokens in zip(corpora.items(), streams, strict=True):
        print(f"{name}: {len(corpus.train)} texts, {len(tokens):,} tokens, {len(corpus.held_out)} held out")
    add_dropout(model, args.dropout)
    optimizers = make_optimizers(model, args.lr, args.weight_decay)
    first, seconds = 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            fresh = [group["weight_decay"] for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, weight_decay in zip(optimizer.param_groups, fresh, strict=True):
                group["weight_decay"] = weight_decay  # what is asked for now, not when the state was saved
        first, seconds = state["step"], state["seconds"]

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, _ = model(inputs)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    step_loss = torch.compile(loss_of) if args.compile else loss_of
    recent, last_save = [], time.monotonic()
    progress = tqdm(range(first, args.steps), initial=first, total=args.steps, desc="training", mininterval=10)
    for step in progress:
        began = time.monotonic()
        torch.manual_seed(args.seed + step)  # so that dropout is a function of the step, as the batch is
        batch = crops(streams, shares, args.batch, args.n_ctx + 1, args.seed, step)
        loss = step_loss(with_noise(batch[:, :-1], args.noise), batch[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.lr * schedule(step, args.steps, args.warmup)
            optimizer.step()
            optimizer.zero_grad()
        recent.append(loss.item())
        seconds += time.monotonic() - began
        if not math.isfinite(recent[-1]):
            sys.exit(f"step {step}: the loss is {recent[-1]}; lower --lr and start with an empty --work")
        progress.set_postfix(loss=f"{recent[-1]:.3f}")
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            held_out = {n: nats_per_character(model, codec, c.held_out, args.n_ctx) for n, c in corpora.items()}
            row = json.dumps({"step": step + 1, "seconds": round(seconds), "loss": float(np.mean(recent)), **held_out})
            with (args.work / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(row + "\n")
            tqdm.write(row)
            recent = []
        if time.monotonic() - last_save > args.save_every or step + 1 == args.steps:
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
            torch.save({**state, "step": step + 1, "seconds": seconds}, state_file.with_suffix(".part"))
            os.replace(state_file.with_suffix(".part"), state_file)
            last_save = time.monotonic()
    return seconds


def mini_config(args: argparse.Namespace, files: CheckpointFiles) -> Config:
    """The configuration that the arguments ask for."""
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
    """Write weights, config.yml and model card to `--out`, and score what was written as a user will load it."""
    weights = {name: tensor.half().contiguous() for name, tensor in model.transformer.state_dict().items()}
    write_file(args.out / "model.safetensors", safetensors.torch.save(weights))

    def described(name: str) -> RemoteFile:
        content = (args.out / name).read_bytes()
        return RemoteFile(name, size=len(content), sha256=hashlib.sha256(content).hexdigest())

    files = CheckpointFiles((described("model.safetensors"),), described("encoder.json"), described("vocab.bpe"))
    config = mini_config(args, files)
    values = dataclasses.asdict(config, dict_factory=lambda pairs: {k: v for k, v in pairs if v is not None})
    del values["name"]
    values["checkpoint"]["weights"] = list(values["checkpoint"]["weights"])
    head = f"# {config.name}: see README.md beside this file. Written by staff/train_mini.py.\n"
    write_file(args.out / "config.yml", (head + yaml.safe_dump(values, sort_keys=False)).encode())

    on_disk = Files(args.out / "model.safetensors", args.out / "encoder.json", args.out / "vocab.bpe", "")
    written, codec = load(load_config(args.out / "config.yml", config.name), on_disk)
    rows = []
    for name, corpus in corpora.items():
        loss = nats_per_character(written, codec, corpus.held_out, args.n_ctx)
        characters = (sum(map(len, corpus.train)), sum(len(text) for _, text in corpus.held_out))
        rows.append(f"| {name} | {characters[0]:,} | {characters[1]:,} | {loss:.3f} |")
        print(f"{name}: {loss:.4f} nats per character held out")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    write_file(
        args.out / "README.md",
        MODEL_CARD.read_text(encoding="utf-8")
        .format(
            **{**vars(args), **vars(config)},
            parameters=parameters / 1e6,
            megabytes=sum((args.out / name).stat().st_size for name in WRITTEN) / 1e6,
            tokens=tokens / 1e6,
            minutes=seconds / 60,
            rows="\n".join(rows),
        )
        .encode("utf-8"),
    )


if __name__ == "__main__":
    main()
