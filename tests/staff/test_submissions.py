"""What a class handed in: Gradescope's export, its unpacked folder, folders of zips, and what can be wrong with them."""

import os
import stat
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from staff.grade_class import export_zip, metadata
from staff.grade_class.export_zip import ExportError
from staff.grade_class.metadata import FILE
from staff.grade_class.submissions import NOTHING, Handed, HandedIn, Student, read
from tests.exports import ANSWER, SOURCE, entry, export, zipped


def read_zip(tmp_path: Path, files: dict[str, bytes | str]) -> HandedIn:
    """What `read` finds in a zip of `files`."""
    into = tmp_path / "into"
    into.mkdir()
    return read(zipped(tmp_path / "export.zip", files), into)


def by_id(handed_in: HandedIn) -> dict[str, Handed]:
    return {handed.id: handed for handed in handed_in.submissions}


# --- Gradescope's export ---


@pytest.mark.parametrize("top", ["assignment_5_export/", "", "a/b/"])
def test_an_export_is_read(tmp_path, top):
    handed_in = read_zip(tmp_path, export("submission_11", "submission_9", top=top))
    assert not handed_in.problems
    first, second = handed_in.submissions
    assert (first.id, second.id) == ("submission_9", "submission_11")
    assert second.students == (Student("jane0", "jane0-1", "jane0@x.edu"),)
    assert second.created_at == datetime(2023, 10, 12, 4, 12, 32, 123456, UTC)
    assert (second.score, second.problem, second.is_active) == (10.5, "", True)
    assert second.path is not None
    assert (second.path / SOURCE).read_bytes() == ANSWER


def test_an_unpacked_export_is_read_in_place(tmp_path):
    with zipfile.ZipFile(zipped(tmp_path / "e.zip", export("submission_1", "submission_2"))) as archive:
        archive.extractall(tmp_path / "unpacked")
    handed_in = read(tmp_path / "unpacked", tmp_path / "into")
    assert not handed_in.problems
    assert [h.path for h in handed_in.submissions] == [
        tmp_path / "unpacked/assignment_5_export" / name for name in ("submission_1", "submission_2")
    ]


def test_a_group_is_one_submission(tmp_path):
    files = export("submission_1") | {f"assignment_5_export/{FILE}": entry("submission_1", "ann", "bob")}
    (handed,) = read_zip(tmp_path, files).submissions
    assert [student.name for student in handed.students] == ["ann", "bob"]


def test_the_later_of_two_submissions_counts(tmp_path):
    described = entry("submission_1", "ann", at="2023-10-13 00:00:00 +09:00")
    described += entry("submission_2", "ann", at="2023-10-12 16:00:00 Z")  # an hour later, elsewhere
    found = by_id(read_zip(tmp_path, export("submission_1", "submission_2", top="") | {FILE: described}))
    assert not found["submission_1"].is_active
    assert found["submission_2"].is_active


def test_a_submission_of_the_history_does_not_count(tmp_path):
    """Who activates an older submission has a newer one in the history."""
    described = entry("submission_1", "ann", at="2023-10-12 00:00:00 Z", earlier=(2, 3))
    described += entry("submission_2", "ann", at="2023-10-13 00:00:00 Z")
    found = by_id(read_zip(tmp_path, export("submission_1", "submission_2", top="") | {FILE: described}))
    assert found["submission_1"].is_active
    assert not found["submission_2"].is_active


def test_who_leaves_a_group_leaves_its_submission_to_the_others(tmp_path):
    described = entry("submission_1", "ann", "bob", at="2023-10-12 00:00:00 Z")
    described += entry("submission_2", "ann", at="2023-10-13 00:00:00 Z")
    found = by_id(read_zip(tmp_path, export("submission_1", "submission_2", top="") | {FILE: described}))
    assert found["submission_1"].is_active
    assert [student.name for student in found["submission_1"].replaced_for] == ["ann"]


def test_students_without_sid_and_email_are_never_one(tmp_path):
    described = "".join(f"submission_{i}:\n  :submitters:\n  - :name: Kim\n" for i in (1, 2))
    handed_in = read_zip(tmp_path, export("submission_1", "submission_2", top="") | {FILE: described})
    assert all(handed.is_active for handed in handed_in.submissions)
    assert handed_in.submissions[0].students == (Student("Kim", "", ""),)
    assert handed_in.submissions[0].created_at is None


@pytest.mark.parametrize("written", ["2023-13-45 00:00:00 Z", "yesterday", "2023-10-12"])
def test_an_unreadable_date_is_a_line(tmp_path, written):
    handed_in = read_zip(tmp_path, export("submission_1", top="") | {FILE: entry("submission_1", "ann", at=written)})
    assert handed_in.submissions[0].created_at is None
    assert any("submission_1" in line and written in line for line in handed_in.problems)


def test_metadata_beyond_the_limit_are_one_line(tmp_path):
    files = export("submission_1", top="") | {FILE: b"#" * (metadata.MAX_SIZE + 1)}
    handed_in = read_zip(tmp_path, files)
    assert [line for line in handed_in.problems if "200 MB" in line]
    assert handed_in.submissions[0].path


# --- one submission as bad input ---


def test_each_bad_submission_is_its_own_problem(tmp_path):
    files = export("submission_1", "submission_2", "submission_3", "submission_4", top="")
    del files[f"submission_2/{SOURCE}"]
    files["submission_2/notes.txt"] = "no answers"
    del files[f"submission_3/{SOURCE}"]
    files["submission_4/questions/../../../../escaped.py"] = "import os"
    found = by_id(read_zip(tmp_path, files))
    assert [id for id, handed in found.items() if handed.path] == ["submission_1"]
    assert "holds no file" in found["submission_2"].problem
    assert "not in the export" in found["submission_3"].problem
    assert "leads out of the folder" in found["submission_4"].problem
    assert not (tmp_path.parent / "escaped.py").exists()


def special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o644) << 16
    return info


def test_a_link_in_the_zip_costs_its_submission(tmp_path):
    path = zipped(tmp_path / "e.zip", export("submission_1", "submission_2", top=""))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(special("submission_2/questions/sample.py", stat.S_IFLNK), "/etc/passwd")
    found = by_id(read(path, tmp_path / "into"))
    assert found["submission_1"].path
    assert "link" in found["submission_2"].problem


@pytest.mark.parametrize("name", [f"questions/{'x' * 300}.py", SOURCE.upper().replace(".PY", ".py"), f"{SOURCE}/x.py"])
def test_names_that_cannot_be_unpacked_cost_the_submission(tmp_path, name):
    found = by_id(read_zip(tmp_path, export("submission_1", "submission_2", top="") | {f"submission_2/{name}": "x"}))
    assert found["submission_1"].path
    assert found["submission_2"].problem


def test_a_zip_bomb_costs_its_submission(tmp_path, monkeypatch):
    monkeypatch.setattr(export_zip.intake, "MAX_TOTAL", 3_100_000)
    files = export("submission_1", "submission_2", "submission_3", top="")
    files |= {f"submission_2/submit/{i}.txt": bytes(1_000_000) for i in range(4)}
    files |= {f"submission_3/venv/{i}.py": b"" for i in range(export_zip.intake.MAX_ENTRIES)}
    found = by_id(read_zip(tmp_path, files))
    assert found["submission_1"].path
    assert "too large at submit/3.txt" in found["submission_2"].problem
    assert "too large" in found["submission_3"].problem
    assert not (tmp_path / "into/submission_2").exists()


def test_a_file_longer_than_it_claims_costs_its_submission(tmp_path):
    path = zipped(tmp_path / "e.zip", export("submission_1", "submission_2", top=""))
    content = path.read_bytes()
    place = content.rindex(f"submission_2/{SOURCE}".encode()) - 46  # its entry in the central directory
    size = len(ANSWER).to_bytes(4, "little")
    assert content[place + 24 : place + 28] == size
    path.write_bytes(content[: place + 24] + (3).to_bytes(4, "little") + content[place + 28 :])
    found = by_id(read(path, tmp_path / "into"))
    assert found["submission_1"].path
    assert "damaged in the export" in found["submission_2"].problem


def test_the_largest_submissions_yield_where_all_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(export_zip, "MAX_TOTAL", 2_000)
    files = export("submission_1", "submission_2", "submission_3", top="")
    found = by_id(read_zip(tmp_path, files | {"submission_2/submit/x.txt": bytes(5_000)}))
    assert [id for id, handed in found.items() if handed.problem] == ["submission_2"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_in_place_of_a_folder_is_refused(tmp_path):
    for name in ("submission_1", "submission_2"):
        (tmp_path / "e" / name).mkdir(parents=True)
        (tmp_path / "e" / name / "sample.py").write_bytes(ANSWER)
    (tmp_path / "e" / "submission_3").symlink_to("/etc")
    (tmp_path / "e" / FILE).write_text(entry("submission_3", "ann"), encoding="utf-8")
    found = by_id(read(tmp_path / "e", tmp_path / "into"))
    assert "symbolic link" in found["submission_3"].problem
    assert found["submission_1"].path


# --- another thing than an export ---


@pytest.mark.parametrize(
    "name",
    [
        "../submission_7/questions/sample.py",
        "/submission_7/sample.py",
        "C:/submission_7/sample.py",
        "a/../../submission_7/sample.py",
        f"../{FILE}",
    ],
)
def test_paths_that_lead_out_of_the_export_are_ignored(tmp_path, name):
    handed_in = read_zip(tmp_path, export("submission_1", top="") | {name: "x"})
    assert list(by_id(handed_in)) == ["submission_1"]
    assert any("leads out of the export" in line for line in handed_in.problems)
    assert not [*tmp_path.glob("submission_7"), *tmp_path.glob(FILE), *Path("/").glob("submission_7")]


def test_two_exports_are_graded_together(tmp_path):
    handed_in = read_zip(tmp_path, export("submission_1", top="a/") | export("submission_2", top="b/"))
    assert list(by_id(handed_in)) == ["submission_1", "submission_2"]
    assert any("a, b" in line for line in handed_in.problems)


def test_an_export_beside_submissions_is_ignored(tmp_path):
    handed_in = read_zip(tmp_path, export("submission_1", top="a/") | export("submission_2", top="a/b/"))
    assert list(by_id(handed_in)) == ["submission_1"]
    assert any("ignored: b" in line for line in handed_in.problems)


def test_a_student_cannot_replace_the_metadata(tmp_path):
    files = export("submission_1", "submission_2", top="")
    files |= {
        f"submission_2/{FILE}": entry("submission_1", "mallory"),
        "submission_2/submission_1/questions/sample.py": "x",
    }
    handed_in = read_zip(tmp_path, files)
    assert by_id(handed_in)["submission_1"].students[0].name == "jane0"
    assert [handed.path.name for handed in handed_in.submissions if handed.path] == ["submission_1", "submission_2"]


def test_a_student_cannot_pass_as_the_export_of_a_folder(tmp_path):
    zipped(
        tmp_path / "class.zip",
        {
            "ann/sample.py": ANSWER,
            f"mallory/{FILE}": entry("submission_1", "ann"),
            "mallory/submission_1/sample.py": ANSWER,
        },
    )
    with zipfile.ZipFile(tmp_path / "class.zip") as archive:
        archive.extractall(tmp_path / "class")
    assert list(by_id(read(tmp_path / "class", tmp_path / "into"))) == ["ann", "mallory"]


def test_missing_metadata_and_unknown_folders_are_lines(tmp_path):
    handed_in = read_zip(tmp_path, {"submission_1/sample.py": ANSWER})
    assert handed_in.submissions[0].path
    assert any("is missing" in line for line in handed_in.problems)
    (tmp_path / "2").mkdir()
    handed_in = read_zip(
        tmp_path / "2", export("submission_1", top="") | {"submission_2/sample.py": ANSWER, "x.txt": ""}
    )
    assert handed_in.submissions[1].path
    assert any("does not say who handed in submission_2" in line for line in handed_in.problems)
    assert any("x.txt" in line for line in handed_in.problems)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"questions/sample.py": "x"}, "grader.py --submission"),
        ({"export.zip": b"x", "readme.txt": ""}, "unpack it"),
        ({}, "no folder submission_"),
        ({"submission_1/notes.txt": ""}, "none of its 1 submissions"),
    ],
)
def test_the_wrong_zip_is_one_line(tmp_path, files, says):
    with pytest.raises(ExportError, match=r"export\.zip: ") as error:
        read_zip(tmp_path, files)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and then nothing", b"\x1f\x8b a tar"])
def test_what_is_no_zip_is_one_line(tmp_path, content):
    (tmp_path / "export.zip").write_bytes(content)
    with pytest.raises(ExportError, match="damaged or not a zip"):
        read(tmp_path / "export.zip", tmp_path / "into")


def test_a_folder_with_older_submissions_is_refused(tmp_path):
    (tmp_path / "into" / "submission_0").mkdir(parents=True)
    with pytest.raises(ExportError, match="is not empty"):
        read(zipped(tmp_path / "e.zip", export("submission_1")), tmp_path / "into")


def test_an_export_cut_off_is_one_line(tmp_path):
    path = zipped(tmp_path / "export.zip", export("submission_1", "submission_2"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ExportError, match="download Gradescope's export again"):
        read(path, tmp_path / "into")


# --- a folder of zips and folders ---


def test_a_folder_of_zips_and_folders_is_read(tmp_path):
    (tmp_path / "class/bob").mkdir(parents=True)
    (tmp_path / "class/bob/sample.py").write_bytes(ANSWER)
    (tmp_path / "class/empty").mkdir()
    (tmp_path / "class/notes.txt").write_text("x", encoding="utf-8")
    zipped(tmp_path / "class/ann.zip", {SOURCE: ANSWER})
    zipped(tmp_path / "class/assignment_5_export.zip", export("submission_1"))
    found = by_id(read(tmp_path / "class", tmp_path / "into"))
    assert [id for id, handed in found.items() if handed.path] == ["ann.zip", "bob"]
    assert {id: handed.problem for id, handed in found.items() if handed.problem} == {
        "assignment_5_export.zip": "is an export itself; give it alone",
        "empty": NOTHING,
        "notes.txt": "is neither a zip nor a folder",
    }


def test_one_submission_is_not_a_class(tmp_path):
    (tmp_path / "questions").mkdir()
    with pytest.raises(ExportError, match=r"grader\.py --submission"):
        read(tmp_path, tmp_path / "into")


@pytest.mark.skipif(os.name == "nt", reason="such names are not possible there")
def test_ids_are_text_that_every_file_may_hold(tmp_path):
    for name in (b"a\xff", b"a\xfe", b"b\nc"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)), "sample.py").write_bytes(ANSWER)
    assert list(by_id(read(tmp_path, tmp_path / "into"))) == ["a?", "a?~", "b?c"]
