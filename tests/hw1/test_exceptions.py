"""Errors that beginners' code raises: each is raised here, by PyTorch, Python or the model itself, and has its hint."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.files import ROOT
from src.grading import student_code
from src.hw1.hints.exceptions import EXCEPTIONS, diagnose_exception
from tests.answers import graded, varied

# A mistake, and lines that make it. They know what a student's block knows: model, text (1, T), logits, past, config.
LINES = {
    "no probabilities": ("torch.multinomial(last, 1)", "torch.multinomial(last.log_softmax(-1), num_samples=1)"),
    "all probabilities zero": ("torch.multinomial((last - 1e10).exp(), 1)",),
    "draws at all positions": ("torch.multinomial(logits.softmax(-1), 1)",),
    "number of draws missing": ("torch.multinomial(last.softmax(-1))",),
    "categorical of others": ("torch.distributions.Categorical(probs=last)",),
    "past of another kind": ("model(text, past=logits)", "model(text[:, :1], past=model(text))"),
    "past of another batch": ("model(text.repeat(2, 1), past=model(text.repeat(3, 1))[1])",),
    "text too long": ("model(text.repeat(1, 500))",),
    "text without batch": ("model(text[0])", "model(torch.tensor(3))"),
    "tuple not unpacked": (
        "torch.log_softmax(model(text), dim=-1)",
        "model(text)[:, :-1]",
        "model(text).log_softmax(-1)",
        "model(text).logits",
        "model(text) / 2",
    ),
    "unpacked into other numbers": ("a, b, c = model(text)", "a, b = last"),
    "index of floats": (
        "logits.gather(-1, text[..., None].float())",
        "last[0][torch.ones(3)]",
        "model(text.float())",
    ),
    "index of fewer dimensions": ("logits.gather(-1, text)",),
    "gathered along another dimension": ("logits.gather(1, 9 + text[..., None])",),
    "as many predictions as tokens": ("logits[:, :-1].gather(-1, text[..., None])",),
    "index out of bounds": ("last[0, 99999]",),
    "not in the vocabulary": ("model(text + 100000)",),
    "dimension too many": ("last[0].log_softmax(1)", "last[0, 1, 2]", "torch.tensor(3)[0]", "len(torch.tensor(3))"),
    "joined with fewer dimensions": ("torch.cat([text, text[0]], 1)", "torch.cat([text, text[0, 0]], 1)"),
    "joined along another dimension": ("torch.cat([text, text[:, :1]], 0)",),
    "shapes do not combine": (
        "torch.ones(5) + torch.ones(5, 12)",
        "last[0, torch.arange(5)] = torch.ones(5, 3)",
        "torch.ones(2, 3) @ torch.ones(2, 3)",
        "logits.view(3, 5)",
    ),
    "cross entropy of other shapes": (
        "torch.nn.functional.cross_entropy(logits, text)",
        "torch.nn.functional.cross_entropy(logits[0], text[0, 1:])",
    ),
    "several elements as a number": ("logits.item()", "float(last)", "[1, 2][text]"),
    "truth of a tensor": ("1 if last > 0 else 2",),
    "softmax of token ids": ("text.softmax(-1)", "torch.log_softmax(text, -1)", "text.mean()"),
    "other type of numbers": ("last.double() @ torch.ones(last.size(1), 1)",),
    "other device": ("last + torch.ones(1, device='meta')",),
    "needs a gradient": ("torch.ones(2, requires_grad=True).numpy()",),
    "not installed": ("import seaborn",),
    "return missing": ("raise ValueError('temperature_horizon is 1, but must be 1 or 2')",),
    "name of the result missing": ("logits[0, 0] = scaled",),
    "import missing": ("F.softmax(last, -1)", "np.log(last)"),
    "no self": ("self.model(text)",),
    "value before assignment": ("probs = probs / 2",),
    "name unknown": ("torch.softmax(logit, -1)",),
    "config as a dict": ("config['top_k']", "config.topk"),
    "value is None": ("nothing.size(0)", "nothing < -320", "last / nothing", "a, b = nothing", "nothing[0]"),
    "number as a tensor": ("last.sum().item().exp()", "torch.log(0.5)", "torch.cat([text, 1], 1)"),
    "list as a tensor": ("[text].size(0)", "torch.log([last])", "[text] / 2"),
    "dim missing": ("torch.softmax(last)",),
    "arguments in another order": ("torch.gather(logits, text[..., None], -1)",),
    "no such function": ("last.log_softmx(-1)", "torch.softmaxx(last)"),
    "called, not indexed": ("last.shape(0)", "last(0)", "last.size[0]"),
    "other arguments": ("model(text, past_key_values=past)", "block(1)"),
    "calls itself": ("block(model, text, config, nothing)",),
    "indentation": ("1\n          2",),
}


def failure_of(line: str, folder: Path, model, config) -> student_code.Failure:
    """What comes of `line` in a student's file."""
    (folder / "sample.py").write_text(
        "import torch\n\n\n"
        "def block(model, text, config, nothing):\n"
        "    logits, past = model(text)\n"
        "    last = logits[:, -1]\n"
        f"    {line}\n"
    )
    student_code.forget()
    try:
        student_code.load_function(folder, "sample.py", "block")(model, torch.tensor([[1, 2, 3, 4]]), config, None)
    except Exception as error:
        return student_code.failure(error, folder)
    finally:
        student_code.forget()
    pytest.fail(f"{line} raises nothing")


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in LINES.items() for line in lines])
def test_a_common_error_has_its_hint(name, line, tmp_path, tiny_model, tiny_config):
    failure = failure_of(line, tmp_path, tiny_model, tiny_config)
    assert [mistake.name for mistake in diagnose_exception(failure.error, failure.line)] == [name], failure.error


def test_every_mistake_has_a_line_that_makes_it():
    assert [mistake.name for mistake in EXCEPTIONS] == list(LINES)


@pytest.mark.parametrize("line", ["raise ValueError('of my own')", "{}['a']", "1 / 0", "assert last is None"])
def test_an_error_that_says_it_all_has_no_hint(line, tmp_path, tiny_model, tiny_config):
    failure = failure_of(line, tmp_path, tiny_model, tiny_config)
    assert not diagnose_exception(failure.error, failure.line)


# --- the tensors at the failing line ---


def test_tensors_of_the_failing_line_come_first(tmp_path, tiny_model, tiny_config):
    line = "scores = last.numpy(); past = torch.ones(2, dtype=torch.bool); text.size(scores)"
    failure = failure_of(line, tmp_path, tiny_model, tiny_config)
    assert failure.text.splitlines()[-1] == (
        "  where text is an int64 tensor of shape (1, 4), past is a bool tensor of shape (2,), "
        "last is a float32 tensor of shape (1, 257), scores is a float32 NumPy array of shape (1, 257), "
        "logits is a float32 tensor of shape (1, 4, 257)"
    )


def test_a_tuple_is_described_by_its_length(tmp_path, tiny_model, tiny_config):
    failure = failure_of("last = model(text); last.softmax(-1)", tmp_path, tiny_model, tiny_config)
    assert "last is a tuple of 2, logits is a float32 tensor" in failure.text


def test_many_tensors_are_not_all_described(tmp_path, tiny_model, tiny_config):
    line = "; ".join(f"{chr(97 + n)} = last" for n in range(20)) + "; k.foo"
    last = failure_of(line, tmp_path, tiny_model, tiny_config).text.splitlines()[-1]
    assert last.count("float32") == 6


def test_describing_locals_runs_no_code_of_theirs(tmp_path, tiny_model, tiny_config):
    """Not even of a class below Tensor, or of an object that says it is one."""
    (tmp_path / "hostile.py").write_text(
        "import torch\n"
        f"def note(*_): open({str(tmp_path / 'ran')!r}, 'a').write('x')\n"
        "class Below(torch.Tensor):\n"
        "    shape = dtype = device = property(note)\n"
        "class Poses:\n"
        "    __class__ = property(note)\n"
        "    __getattr__ = __repr__ = __str__ = note\n"
    )
    line = (
        "from questions.hostile import Below, Poses; a = Below(); b = Poses(); logits = past = last = text = 0; 1 / 0"
    )
    failure = failure_of(line, tmp_path, tiny_model, tiny_config)
    assert "ZeroDivisionError" in failure.text
    assert "where" not in failure.text
    assert not (tmp_path / "ran").exists()


# --- where students see it ---


@pytest.mark.parametrize(
    ("old", "new", "part", "hint"),
    [
        ("return logits / temp", "logits = logits / temp", "6.6", "the block of 6.6 ends without return; return the scaled"),
        ("scaled = ", "scales = ", "6.7", "the block of 6.7 must leave its result in `scaled`"),
    ],
)  # fmt: skip
def test_a_block_that_leaves_no_result_is_told(tmp_path, old, new, part, hint):
    results = graded(varied(tmp_path / "mine", "sample.py", (old, new)), tmp_path / "results.json", part)
    assert f"hint: {hint}" in results["tests"][0]["output"]


def test_grader_and_main_show_tensors_and_hint(tmp_path):
    folder = varied(tmp_path / "questions", "likelihood.py", ("text[:, 1:, None]", "text[:, 1:]"))
    visible, _, hidden, _ = graded(folder, tmp_path / "results.json", "6.4")["tests"]
    command = [sys.executable, ROOT / "main.py", "--model", "bundled", "--question", "6.4"]
    command += ["--questions", folder, "--out", tmp_path / "submit"]
    main = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "\nexpected: `log_likelihood` to return a value\ngot: your code raised an error\n" in visible["output"]
    for text in (visible["output"], main):
        assert re.search(r"  where text is an int64 tensor of shape \(1, \d+\)", text)
        assert "hint: gather takes an index with as many dimensions as the tensor has" in text
    assert "where" not in hidden["output"]
