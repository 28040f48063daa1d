"""The compiled step computes what the model computes. The comparison with `transformers` is in test_gpt2.py."""

import copy
import dataclasses
import subprocess
import sys
import threading

import pytest
import torch

from src.files import ROOT
from src.model import checkpoint, compiled
from src.model.compiled import CompiledStep, compile_step, use_compiled_step
from src.model.config import BUNDLED, model_config
from src.model.gpt2 import GPT2
from src.model.onednn import is_supported, use_onednn

V = 6144  # tokens of the bundled model
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.1}  # oneDNN rounds what goes into a product to bfloat16

pytestmark = pytest.mark.skipif(
    not is_supported(torch.float32) or compile_step(compiled.FOLDER) is None,
    reason="needs g++, Linux, and a processor for which oneDNN has fast kernels",
)


def load(dtype="float32", step=True):
    config = dataclasses.replace(model_config(BUNDLED), dtype=dtype)
    files = checkpoint.locate(config)
    model = checkpoint.build(config, checkpoint.read_weights(files.weights), files.weights)
    use_onednn(model)
    assert not step or use_compiled_step(model)
    return model


@pytest.fixture(scope="module")
def usual():
    """The bundled model with oneDNN's layers, computed by PyTorch."""
    return load(step=False)


@pytest.fixture(scope="module")
def model():
    """The same with the compiled step."""
    return load()


@pytest.fixture
def steps(monkeypatch):
    """The batch size of each step that is computed by compiled code."""
    sizes: list[int] = []
    call = CompiledStep.__call__

    def counted(self, input_ids, past):
        stepped = call(self, input_ids, past)
        sizes.extend([] if stepped is None else [len(input_ids)])
        return stepped

    monkeypatch.setattr(CompiledStep, "__call__", counted)
    return sizes


def ids(*shape):
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(sum(shape)))


@torch.inference_mode()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch", [1, 2, 5, 6, 7, 13])
def test_steps_of_a_batch(dtype, batch, steps):
    tolerance = TOLERANCES[dtype]
    usual, model = load(dtype, step=False), load(dtype)
    steps.clear()  # loading compares a step of its own
    text = ids(batch, 40)
    past, expected_past = (m(text[:, :30])[1] for m in (model, usual))
    for t in range(30, 40):
        logits, past = model(text[:, t : t + 1], past=past)
        expected, expected_past = usual(text[:, t : t + 1], past=expected_past)
        torch.testing.assert_close(logits, expected, atol=tolerance, rtol=0)
        assert logits.dtype == torch.float32
    for present, other in zip(past, expected_past, strict=True):
        torch.testing.assert_close(present.key, other.key, atol=tolerance, rtol=0)
        torch.testing.assert_close(present.value, other.value, atol=tolerance, rtol=0)
    assert steps == [batch] * 10


@torch.inference_mode()
def test_a_batch_from_the_past_of_one_text(usual, model, steps):
    text, candidates = ids(1, 20), ids(9, 3)
    past, expected_past = (m(text)[1] for m in (model, usual))
    for t in range(3):
        logits, past = model(candidates[:, t : t + 1], past=past)
        expected, expected_past = usual(candidates[:, t : t + 1], past=expected_past)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert steps == [9] * 3
    assert past[0].prefix is not None


@torch.inference_mode()
def test_a_row_does_not_depend_on_the_others(model):
    _, past = model(ids(1, 20))
    together, _ = model(ids(9, 1), past=past)
    alone = [model(row[None], past=past)[0] for row in ids(9, 1)]
    assert torch.equal(together, torch.cat(alone))


@torch.inference_mode()
def test_a_past_stays_as_it_was(model):
    _, past = model(ids(2, 10))
    first = [model(ids(2, 1), past=past)[0] for _ in range(2)]
    model(ids(2, 1) - 1, past=past)
    assert torch.equal(*first)
    assert torch.equal(model(ids(2, 1), past=past)[0], first[0])
    assert len(past[0]) == 10


def test_outside_of_inference_mode(model, steps):
    _, past = model(ids(1, 10))
    with torch.inference_mode():
        _, inside = model(ids(1, 10))
    expected, _ = model(ids(1, 1), past=past)
    torch.testing.assert_close(model(ids(1, 1), past=inside)[0], expected)
    assert steps == [1, 1]


@torch.inference_mode()
@pytest.mark.parametrize(
    "arguments",
    [
        {"position_ids": torch.tensor([3])},
        {"token_type_ids": torch.tensor([[7]])},
        {"input_ids": torch.tensor([[1, 2]])},
        {"input_ids": torch.tensor([[1]], dtype=torch.int32)},
        {"past": None},
    ],
)
def test_other_arguments(usual, model, arguments):
    _, past = usual(ids(1, 10))
    call = {"input_ids": ids(1, 1), "past": past} | arguments
    torch.testing.assert_close(model(**call)[0], usual(**call)[0], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_a_batch_that_is_too_large_for_it(model, steps):
    _, past = model(ids(1, 3))
    model(torch.zeros(compiled.LARGEST_BATCH + 1, 1, dtype=torch.long), past=past)
    assert steps == []


@torch.inference_mode()
@pytest.mark.parametrize(
    ("tokens", "batch", "error"),
    [
        ([[V]], 1, IndexError),
        ([[-1]], 1, IndexError),
        ([[1.0]], 1, RuntimeError),
        ([[True]], 1, RuntimeError),
        (1, 1, IndexError),
        ([[1], [2], [3]], 2, ValueError),
    ],
)
def test_mistakes_are_the_usual_errors(usual, model, tokens, batch, error):
    messages = []
    for m in (usual, model):
        _, past = m(ids(batch, 4))
        with pytest.raises(error) as caught:
            m(torch.tensor(tokens), past=past)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@torch.inference_mode()
def test_pytorchs_defaults_change_nothing(model):
    tokens, (_, past) = ids(3, 1), model(ids(3, 10))
    expected, _ = model(tokens, past=past)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            logits, _ = model(tokens, past=past)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(logits, expected)


@torch.inference_mode()
def test_a_text_that_is_too_long(model):
    _, past = model(ids(1, model.transformer.n_positions))
    with pytest.raises(ValueError, match="shorter text"):
        model(ids(1, 1), past=past)


@torch.inference_mode()
def test_a_past_of_another_model_is_left_to_pytorch(model, tiny_model):
    _, past = tiny_model(torch.zeros(1, 3, dtype=torch.long))
    assert model.step(ids(1, 1), past) is None
    assert model.step(ids(1, 1), model(ids(1, 3))[1][:-1]) is None


@torch.inference_mode()
def test_a_copy_of_the_model_has_it_too(model, steps):
    twin = copy.deepcopy(model)
    _, past = twin(ids(1, 5))
    assert torch.equal(twin(ids(1, 1), past=past)[0], model(ids(1, 1), past=past)[0])
    assert steps == [1, 1]


def drawn(model):
    """A text of 60 tokens in two continuations, as a student draws it."""
    generator, tokens, past = torch.Generator().manual_seed(0), ids(2, 4), None
    texts = [tokens]
    for _ in range(60):
        logits, past = model(tokens, past=past)
        tokens = torch.multinomial(logits[:, -1].softmax(dim=-1), 1, generator=generator)
        texts.append(tokens)
    return torch.cat(texts, dim=1)


@torch.inference_mode()
def test_the_same_seed_draws_the_same_text(usual, model):
    assert torch.equal(drawn(usual), drawn(model))


@torch.inference_mode()
def test_threads_may_share_a_model(model):
    _, past = model(ids(1, 10))
    expected, got = model(ids(3, 1), past=past)[0], []

    def steps():
        with torch.inference_mode():
            got.extend(model(ids(3, 1), past=past)[0] for _ in range(20))

    threads = [threading.Thread(target=steps) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 40
    assert all(torch.equal(logits, expected) for logits in got)


def test_it_is_compiled_once(tmp_path, monkeypatch):
    path = compile_step(tmp_path)
    assert path is not None
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(subprocess, "run", None)
    assert compile_step(tmp_path) == path


def test_another_processor_has_code_of_its_own(tmp_path, monkeypatch):
    path = compile_step(tmp_path)
    monkeypatch.setattr(compiled, "_processor", lambda: "flags: none")
    assert compile_step(tmp_path) not in (None, path)


def test_two_processes_may_compile_it_at_once(tmp_path):
    code = (
        f"from pathlib import Path; from src.model.compiled import compile_step; compile_step(Path({str(tmp_path)!r}))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert [path.suffix for path in tmp_path.iterdir()] == [".so"]


@torch.inference_mode()
def test_code_for_avx2_computes_the_same(usual, monkeypatch, tmp_path):
    monkeypatch.setattr(compiled, "FLAGS", (*compiled.FLAGS, "-march=haswell"))
    model = load(step=False)
    assert use_compiled_step(model, tmp_path)
    _, past = model(ids(5, 8))
    torch.testing.assert_close(model(ids(5, 1), past=past)[0], usual(ids(5, 1), past=past)[0], atol=1e-4, rtol=0)


def without_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def compiler_that_fails(monkeypatch, tmp_path):
    (tmp_path / "g++").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "g++").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def compiler_that_writes_nonsense(monkeypatch, tmp_path):
    (tmp_path / "g++").write_text('#!/bin/sh\nfor last; do :; done\necho nonsense > "$last"\n')
    (tmp_path / "g++").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def folder_that_is_a_file(monkeypatch, tmp_path):
    (tmp_path / "code").write_text("")


def another_system(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "darwin")


def a_processor_that_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled, "_processor", (tmp_path / "cpuinfo").read_text)


def heads_of_another_size(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled, "_head_dim", lambda model: 32)


def another_order_of_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled, "_is_in_blocks", lambda layer: False)


def code_that_computes_something_else(monkeypatch, tmp_path):
    wrong = tmp_path / "step.cpp"
    wrong.write_text(compiled.SOURCE.read_text().replace("0.044715f", "0.5f"))
    monkeypatch.setattr(compiled, "SOURCE", wrong)


@torch.inference_mode()
@pytest.mark.parametrize(
    "obstacle",
    [
        without_compiler,
        compiler_that_fails,
        compiler_that_writes_nonsense,
        folder_that_is_a_file,
        another_system,
        a_processor_that_is_unknown,
        heads_of_another_size,
        another_order_of_weights,
        code_that_computes_something_else,
    ],
)
def test_without_it_the_model_stays_as_it_is(obstacle, monkeypatch, tmp_path, capfd):
    obstacle(monkeypatch, tmp_path)
    model = load(step=False)
    assert not use_compiled_step(model, tmp_path / "code")
    assert type(model) is GPT2
    assert model(ids(1, 3))[0].shape == (1, 3, V)
    assert capfd.readouterr() == ("", "")
