"""`grader.py`: full points for right answers, a hint for wrong ones, and points lost only where they are due."""

import pytest

from src.grading.diagnosis import HINTS
from tests.answers import SOLUTION, graded, points, varied

FULL = {"6.3": 8, "6.4": 8, "6.5": 7, "6.6": 7, "6.7": 5}

# name: (file, replacements, part that loses points, at most so many left, the hint)
WRONG = {
    "greedy": ("sample.py", [("torch.multinomial(probabilities, num_samples=1)", "probabilities.argmax(dim=-1, keepdim=True)")], "6.3", 4, "greedy"),
    "fed twice": ("sample.py", [("current_text = next_token", "current_text = torch.cat(output, dim=1)")], "6.3", 4, "whole text and past"),
    "past dropped": ("sample.py", [("past = new_past", "past = None")], "6.3", 4, "past dropped"),
    "wrong axis": ("sample.py", [("torch.softmax(logits, dim=-1)", "torch.softmax(logits, dim=0)")], "6.3", 4, "uniform"),
    "only new": ("sample.py", [("output = [start_text]", "output = []")], "6.3", 0, "only new tokens"),
    "mean": ("likelihood.py", [(".sum().item()", ".mean().item()")], "6.4", 4, "mean"),
    "off by one": ("likelihood.py", [("text[:, 1:, None]", "text[:, :-1, None]")], "6.4", 4, "shifted"),
    "sign": ("likelihood.py", [("return token", "return -token")], "6.4", 4, "sign"),
    "bits": ("likelihood.py", [(".sum().item()", ".sum().item() / 0.6931471805599453")], "6.4", 4, "base 2"),
    "time axis": ("likelihood.py", [("logits[:, :-1], dim=-1", "logits[:, :-1], dim=1")], "6.4", 4, "wrong axis"),
    "plays random": ("classifier.py", [("< -320", "< -125")], "6.5", 3.5, "plays random"),
    "inverted": ("classifier.py", [("< -320", "> -320")], "6.5", 3.5, "inverted"),
    "scale": ("classifier.py", [("< -320", "< -8")], "6.5", 3.5, "always True"),
    "multiplied": ("sample.py", [("return logits / temperature", "return logits * temperature")], "6.6", 3.5, "multiplied"),
    "after softmax": ("sample.py", [("return logits / temperature", "return torch.softmax(logits, dim=-1) / temperature")], "6.6", 3.5, "after softmax"),
    "in place": ("sample.py", [("return logits / temperature", "return logits.div_(temperature)")], "6.6", 3.5, "in place"),
    "maximum": ("sample.py", [("torch.logsumexp(log_p_joint / temperature, dim=-1)", "(log_p_joint / temperature).max(dim=-1).values")], "6.7", 2.5, "maximum"),
    "unfiltered": ("sample.py", [("top_k_logits(next_logits[:, -1], k=config.top_k)", "next_logits[:, -1]")], "6.7", 2.5, "second unfiltered"),
    "horizon 1": ("sample.py", [("torch.logsumexp(log_p_joint / temperature, dim=-1)", "log_p_first / temperature")], "6.7", 2.5, "horizon 1"),
    "not normalised": ("sample.py", [("next_logits.log_softmax(dim=-1)", "next_logits")], "6.7", 2.5, "second not normalised"),
    "no past": ("sample.py", [("model(candidates.unsqueeze(1), past=new_past)", "model(candidates.unsqueeze(1))")], "6.7", 2.5, "no past"),
}  # fmt: skip
FIRST = {part: name for name, (_, _, part, _, _) in reversed(WRONG.items())}.values()


def test_the_reference_answers_get_all_points_and_the_stubs_none(tmp_path):
    right = graded(SOLUTION, tmp_path / "right.json")
    assert points(right) == FULL | {"7.1": 0}, right
    assert "30 / 30 + 5 / 5 extra" in right["stdout"]
    assert right["exit"] == 0
    stubs = graded(SOLUTION.parent.parent / "questions", tmp_path / "stubs.json")
    assert set(points(stubs).values()) == {0}
    assert stubs["exit"] == 1
    for part in FULL:
        first = next(t for t in stubs["tests"] if t["number"] == f"{part}.1")
        assert f"{part}: the block is not written yet: questions/" in first["output"]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_loses_points_in_its_own_part_and_gets_the_hint_that_names_it(name, tmp_path):
    file, replacements, part, at_most, hint = WRONG[name]
    whole = name in FIRST  # of each part's mistakes, one is graded whole: the rest of the parts must not suffer
    parts = [] if whole else [part]
    results = graded(varied(tmp_path / "questions", file, *replacements), tmp_path / "results.json", *parts)
    earned = points(results)
    assert earned[part] <= at_most
    assert {p: earned[p] for p in FULL if p != part and whole} == {p: FULL[p] for p in FULL if p != part and whole}
    lost = [test for test in results["tests"] if test["status"] == "failed"]
    assert any(HINTS[hint] in test.get("output", "") for test in lost), lost
