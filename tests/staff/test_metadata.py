"""submission_metadata.yml: what is read of it, and what can be wrong with it."""

import string
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from staff.grade_class import metadata
from staff.grade_class.metadata import Student, read_metadata
from tests.exports import entry

# --- names ---


@pytest.mark.parametrize(
    "name", ["José Ñandú", "王小明", "محمد", "علی\u200cرضا", "Ђорђе", "🙂 O'Neil", 'a "b": #c', "- x", "null"]
)
def test_names_in_any_script_are_kept(name):
    quoted = yaml.safe_dump([{":name": name}], allow_unicode=True).strip()
    escaped = yaml.safe_dump([{":name": name}], allow_unicode=False).strip()
    text = f"submission_1:\n  :submitters:\n  {quoted}\nsubmission_2:\n  :submitters:\n  {escaped}\n"
    entries, problems = read_metadata(text.encode())
    assert not problems
    assert [e.students[0].name for e in entries.values()] == [name, name]


def test_a_name_cannot_steer_a_terminal_or_turn_the_text():
    entries, _ = read_metadata(b'submission_1:\n  :submitters:\n  - :name: "a\\e[2J\\u202Eb\\nc"\n')
    assert entries["submission_1"].students[0].name == "a?[2J?b?c"


# --- the metadata as bad input ---


def test_a_broken_entry_costs_only_itself():
    good = [entry(f"submission_{i}", f"s{i}") for i in range(3)]
    broken = 'submission_7:\n  :submitters: [}\n  - "\n'
    entries, (problem,) = read_metadata("".join(["---\n", good[0], broken, *good[1:]]).encode())
    assert set(entries) == {"submission_0", "submission_1", "submission_2"}
    assert "line 17" in problem


def test_yaml_tags_run_nothing(tmp_path):
    left = tmp_path / "left"
    text = f"submission_1:\n  :submitters:\n  - :name: !!python/object/apply:os.mkdir ['{left}']\n"
    text += "  :created_at: !ruby/object:Kernel {}\nsubmission_2: !!python/name:os.system ''\n"
    entries, _ = read_metadata(text.encode())
    assert set(entries) == {"submission_1", "submission_2"}
    assert not left.exists()


def test_aliases_are_refused():
    bomb = "submission_1:\n  a: &a [x, x]\n" + "".join(
        f"  {b}: &{b} [*{a}, *{a}]\n" for a, b in zip(string.ascii_lowercase, string.ascii_lowercase[1:], strict=False)
    )
    entries, (problem,) = read_metadata((bomb + entry("submission_2", "ann")).encode())
    assert "aliases" in problem
    assert set(entries) == {"submission_2"}


@pytest.mark.parametrize(
    "text", ["submission_1: " + "[" * 3_000_000, "{" * 3_000_000, "submission_1:\n  a: " + "[" * 30 + "]" * 30]
)
def test_deep_nesting_is_refused(text):
    entries, problems = read_metadata(text.encode())
    assert not entries
    assert len(problems) == 1


@pytest.mark.parametrize("content", [b"", b"---\n", b"\0\0", b"\xff\xfe\x00", b"- a\n- b\n", b"hello"])
def test_metadata_of_nothing_is_a_line(content):
    entries, problems = read_metadata(content)
    assert not entries
    assert problems


def test_folders_of_other_names_are_no_submissions():
    text = entry("submission_1", "ann") + "../../etc:\n  :submitters: []\n" + "'submission_2/../../x':\n  a: b\n"
    entries, problems = read_metadata(text.encode())
    assert set(entries) == {"submission_1"}
    assert len(problems) == 2


def test_ten_thousand_entries_are_read_in_seconds():
    text = "".join(entry(f"submission_{i}", f"s{i}", earlier=(1, 2)) for i in range(10_000)).encode()
    started = time.process_time()
    entries, problems = read_metadata(text)
    assert time.process_time() - started < 15  # 1 s on an idle core; a safe loader takes minutes
    assert len(entries) == 10_000
    assert not problems


FIXED = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters=[*metadata._STEERING, "\x85"]),
    max_size=30,
).map(str.strip)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4), st.text(max_size=60), st.booleans())
@FIXED
def test_what_a_yaml_writer_writes_is_read_back(students, output, is_plain):
    """Whatever the names and the results hold."""
    value = {
        ":submitters": [dict(zip((":name", ":sid", ":email"), student, strict=True)) for student in students],
        ":results": {"tests": [{"output": output}], ":submitters": output},
        ":score": 3.5,
    }
    text = "".join(yaml.safe_dump({f"submission_{i}": value}, allow_unicode=is_plain, sort_keys=False) for i in (1, 2))
    entries, problems = read_metadata(text.encode())
    assert not problems
    for found in entries.values():
        assert found.students == tuple(Student(*student) for student in students)
        assert found.score == 3.5


@given(st.data())
@FIXED
def test_damaged_metadata_raise_nothing(data):
    content = bytearray((entry("submission_1", "ann", earlier=(3,)) + entry("submission_2", "王")).encode())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(
            st.binary(max_size=9)
            | st.sampled_from([b"&a ", b"*a ", b"!!x ", b"[", b"{", b'"', b"\n", b"\nsubmission_2:", b"? ", b"- "])
        )
    entries, problems = read_metadata(bytes(content))
    assert entries or problems
