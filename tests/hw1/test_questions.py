"""The reference answers against exact enumeration, and the stubs against the reference answers."""

import math
import subprocess
import sys

import pytest
import torch

from src.errors import HomeworkError
from src.files import ROOT
from src.grading.student_code import load_function
from src.hw1.parts import HOMEWORK
from staff.make_stubs import END, START, stub
from tests.answers import SOLUTION
from tests.hw1.table_model import TableConfig, TableModel

PROMPT = [1, 4]


def answer(file: str, name: str):
    return load_function(SOLUTION, file, name)


def scaled_distribution(temperature, horizon, top_k=4, ids=PROMPT):
    """The reference answer's distribution of the token after `ids`, on a table model, and that model."""
    model, config = TableModel(6), TableConfig(top_k)
    logits, past = model(torch.tensor([ids]))
    filtered = answer("sample.py", "top_k_logits")(logits[:, -1], k=top_k)
    before = filtered.clone()
    scaled = answer("sample.py", "temperature_scale")(filtered, model, past, config, temperature, horizon)
    assert torch.equal(filtered, before)
    assert scaled.shape == filtered.shape
    return torch.softmax(scaled, dim=-1)[0].tolist(), model


@pytest.mark.parametrize("top_k", [1, 2, 4, 0])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 0.95, 1.0, 3.0])
def test_horizon_2_is_the_exact_marginal_of_the_scaled_joint(temperature, top_k):
    found, model = scaled_distribution(temperature, 2, top_k)
    assert found == pytest.approx(model.joint_marginal(PROMPT, top_k, temperature), abs=1e-6)
    assert len(model.calls) == 2  # the prompt, then all candidates at once
    assert model.calls[1] == ((top_k or 6, 1), 2)


@pytest.mark.parametrize("temperature", [0.5, 0.8, 0.95, 3.0])
def test_horizon_1_scales_the_next_token_and_differs_from_2(temperature):
    found, model = scaled_distribution(temperature, 1)
    weights = [p ** (1 / temperature) for p in model.next_probabilities(PROMPT, 4)]
    assert found == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-9)
    # An effect of the second token's entropy, of the order of (1/T - 1) times its differences, which are about 1 here.
    assert max(abs(a - b) for a, b in zip(found, scaled_distribution(temperature, 2)[0], strict=True)) > 1e-3


def test_temperature_1_and_none_are_the_model_itself():
    expected = TableModel(6).next_probabilities(PROMPT, 4)
    for temperature, horizon in ((1.0, 1), (1.0, 2), (None, 1), (None, 2)):
        assert scaled_distribution(temperature, horizon)[0] == pytest.approx(expected, abs=1e-9)


def test_horizon_2_on_gpt2_equals_a_loop_over_candidates(tiny_model, tiny_config):
    ids = torch.randint(257, (1, 10))
    logits, past = tiny_model(ids)
    top_k_logits = answer("sample.py", "top_k_logits")
    filtered = top_k_logits(logits[:, -1], k=5)
    scaled = answer("sample.py", "temperature_scale")(filtered, tiny_model, past, tiny_config, 0.7, 2)
    kept = filtered[0].topk(5).indices.tolist()
    expected = []
    for token in kept:
        following = tiny_model(torch.cat((ids, torch.tensor([[token]])), dim=1))[0][:, -1]
        second = top_k_logits(following, k=5).double().log_softmax(-1)
        first = filtered.double().log_softmax(-1)[0, token]
        expected.append(((first + second) / 0.7).logsumexp(-1))
    expected = torch.stack(expected).flatten().softmax(-1)
    torch.testing.assert_close(scaled.double().softmax(-1)[0, kept], expected, atol=1e-6, rtol=0)
    assert scaled.softmax(-1).sum() == pytest.approx(1, abs=1e-6)
    assert (scaled.softmax(-1) > 0).sum() == 5


def test_horizon_2_is_refused_for_a_batch():
    with pytest.raises(ValueError, match="one text at a time"):
        answer("sample.py", "sample")(TableModel(6), torch.tensor([[1, 2], [2, 1]]), TableConfig(4), 1, 0.5, 2)


def test_a_horizon_of_3_is_refused():
    with pytest.raises(ValueError, match="temperature_horizon is 3"):
        scaled_distribution(0.5, 3)


@pytest.mark.parametrize(("temperature", "horizon"), [(None, 1), (0.6, 1), (0.6, 2)])
def test_samples_follow_the_exact_distribution(temperature, horizon):
    """The first drawn token's frequencies lie within 5 standard deviations: all but one run in a million do."""
    model, top_k = TableModel(6), 4
    sample, draws = answer("sample.py", "sample"), 2000 if horizon == 2 else 20_000
    prompts = torch.tensor([PROMPT]) if horizon == 2 else torch.tensor([PROMPT]).expand(draws, -1)
    runs = draws if horizon == 2 else 1
    tokens = torch.cat(
        [sample(model, prompts, TableConfig(top_k), 1, temperature, horizon)[:, -1] for _ in range(runs)]
    )
    if horizon == 2:
        expected = model.joint_marginal(PROMPT, top_k, temperature)
    else:
        weights = [p ** (1 / (temperature or 1)) for p in model.next_probabilities(PROMPT, top_k)]
        expected = [weight / sum(weights) for weight in weights]
    for token, p in enumerate(expected):
        deviation = math.sqrt(p * (1 - p) / draws)
        assert abs((tokens == token).double().mean().item() - p) <= 5 * deviation


def test_sample_keeps_the_prompt_and_feeds_each_token_once():
    model = TableModel(6)
    prompts = torch.tensor([[1, 2, 3], [3, 2, 1]])
    tokens = answer("sample.py", "sample")(model, prompts, TableConfig(4), length=5)
    assert tokens.shape == (2, 8)
    assert tokens.dtype == torch.long
    assert torch.equal(tokens[:, :3], prompts)
    assert model.calls == [((2, 3), 0), *(((2, 1), t) for t in range(3, 7))]


@pytest.mark.parametrize("length", [2, 3, 30])
def test_log_likelihood_is_the_exact_sum_without_the_first_token(length):
    model = TableModel(6)
    ids = torch.randint(6, (1, length))
    expected = sum(math.log(model.next_probabilities(ids[0, :i].tolist(), 0)[ids[0, i]]) for i in range(1, length))
    found = answer("likelihood.py", "log_likelihood")(model, ids)
    assert type(found) is float
    assert found == pytest.approx(expected, abs=1e-9)


def test_top_k_logits_keeps_the_k_largest_of_each_row():
    top_k_logits = answer("sample.py", "top_k_logits")
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 5.0]])
    assert top_k_logits(logits, 2).tolist() == [[3.0, -1e10, 2.0], [-1e10, 5.0, 5.0]]
    assert top_k_logits(logits, 0) is logits
    assert torch.equal(top_k_logits(logits, 99), logits)


@pytest.mark.parametrize("name", HOMEWORK.all_files)
def test_stubs_are_the_answers_without_their_blocks(name):
    expected = stub((SOLUTION / name).read_text(encoding="utf-8"))
    assert (ROOT / "questions" / name).read_text(encoding="utf-8") == expected, "run: make stubs"


def test_blocks_have_1_to_7_lines_and_each_stub_names_its_part():
    parts = []
    for path in sorted(SOLUTION.glob("*.py")):
        for block in path.read_text(encoding="utf-8").split(START)[1:]:
            assert 1 <= block.split(END)[0].strip().count("\n") + 1 <= 7
        stubbed = (ROOT / "questions" / path.name).read_text(encoding="utf-8")
        parts += [line.split('"')[1] for line in stubbed.splitlines() if "raise NotImplementedError" in line]
    assert tuple(sorted(parts)) == HOMEWORK.all_numbers


@pytest.mark.parametrize(
    "source",
    [
        "# TODO 6.3\n### START CODE HERE ###\nx\n",
        "### START CODE HERE ###\nx\n### END CODE HERE ###\n",
        f"# TODO 6.3\n{END}",
    ],
)
def test_marks_that_do_not_fit_are_refused(source):
    with pytest.raises(HomeworkError):
        stub(source)


@pytest.mark.parametrize("name", HOMEWORK.question_files)
def test_the_button_of_an_editor_says_what_runs_the_file(name):
    number = next(number for number in HOMEWORK.numbers if HOMEWORK.part(number).file == name)
    process = subprocess.run([sys.executable, ROOT / "questions" / name], capture_output=True, text=True, check=False)
    command = f"python main.py --model bundled --question {number}"
    assert process.stderr == f"main.py runs this file; try: {command}\n"


def test_questions_import_nothing_of_src():
    imports = "import questions.sample, questions.likelihood, questions.classifier, sys"
    code = f"{imports}; sys.exit(any(m.split('.')[0] == 'src' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
