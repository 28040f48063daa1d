"""What students hand in: right in many wrappings, refused with a sentence where it could do harm."""

import os
import shutil
import stat
import struct
import zipfile

import pytest

from src.errors import IntakeError
from src.grading.intake import unpack
from src.hw1.parts import HOMEWORK
from tests.answers import IGNORED, SOLUTION

SOURCES = {name: (SOLUTION / name).read_bytes() for name in HOMEWORK.all_files}


def zipped(path, files: dict, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def taken(source, tmp_path) -> dict[str, bytes]:
    into = tmp_path / "into"
    into.mkdir()
    submission = unpack(HOMEWORK, source, into)
    return {path.name: path.read_bytes() for path in submission.questions.glob("*.py")}


@pytest.mark.parametrize(
    "wrapping",
    [
        "questions/{}",
        "hw1/questions/{}",
        "a/b/questions/{}",
        "questions\\{}",
        "hw1\\questions\\{}",
        "./questions/{}",
        "{}",
        "hw1/{}",
    ],
)
def test_wrappings_do_not_matter(tmp_path, wrapping):
    files = {wrapping.format(name): content for name, content in SOURCES.items()}
    files |= {"__MACOSX/._sample.py": b"\0", "hw1/.DS_Store": b"\0"}
    assert taken(zipped(tmp_path / "s.zip", files), tmp_path) == SOURCES


def test_a_folder_is_taken_as_a_zip_is(tmp_path):
    shutil.copytree(SOLUTION, tmp_path / "s" / "wrapped" / "questions", ignore=IGNORED)
    assert taken(tmp_path / "s", tmp_path) == SOURCES


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_byte_order_marks_and_line_ends_do_not_matter(tmp_path, encoding, line_end):
    text = SOURCES["likelihood.py"].decode().replace("\n", line_end)
    got = taken(zipped(tmp_path / "s.zip", SOURCES | {"likelihood.py": text.encode(encoding)}), tmp_path)
    names: dict = {}
    exec(compile(got["likelihood.py"], "likelihood.py", "exec"), names)
    assert callable(names["log_likelihood"])


def test_a_missing_file_is_noted(tmp_path):
    (tmp_path / "into").mkdir()
    submission = unpack(HOMEWORK, zipped(tmp_path / "s.zip", {"questions/sample.py": b""}), tmp_path / "into")
    assert submission.notes == ("note: questions/likelihood.py is missing", "note: questions/classifier.py is missing")


def symlink(path):
    info = zipfile.ZipInfo("questions/sample.py")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    return path


def encrypted(path):
    zipped(path, SOURCES)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        content[at + offset] |= 1
    path.write_bytes(content)
    return path


def truncated(path):
    zipped(path, SOURCES)
    path.write_bytes(path.read_bytes()[:-200])
    return path


def corrupted(path):
    zipped(path, SOURCES)
    content = bytearray(path.read_bytes())
    content[60:90] = b"\0" * 30
    path.write_bytes(content)
    return path


def lying_about_its_length(path):
    """A bomb that claims to be small: the sizes in both headers are made 10."""
    zipped(path, {"questions/sample.py": b"0" * 10**7})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.find(signature) + offset, 10)
    path.write_bytes(content)
    return path


def twice(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("questions/sample.py", "x = 1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("questions/sample.py", "x = 2")
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: zipped(p, SOURCES | {"../x.py": b""}), "leads out of the folder"),
        (lambda p: zipped(p, SOURCES | {"/x.py": b""}), "leads out of the folder"),
        (lambda p: zipped(p, SOURCES | {"c:\\x.py": b""}), "leads out of the folder"),
        (lambda p: zipped(p, SOURCES | {"a/../../x.py": b""}), "leads out of the folder"),
        (lambda p: zipped(p, {"readme.txt": b""}), "holds none of sample.py, likelihood.py, classifier.py"),
        (lambda p: zipped(p, {}), "holds none of"),
        (lambda p: zipped(p, {f"{i}.txt": b"" for i in range(2000)}), "holds 2000 files"),
        (lambda p: zipped(p, {"questions/sample.py": b"0" * 3 * 10**7}), "questions/sample.py is too large for a file"),
        (lambda p: zipped(p, {f"{f}/questions/sample.py": b"" for f in "ab"}), "holds two submissions, in a and b"),
        (lambda p: zipped(p, {"questions/sample.py": b"", "questions/Sample.py": b""}), "twice"),
        (symlink, "is a link"),
        (encrypted, "is encrypted"),
        (truncated, "is damaged or not a zip"),
        (corrupted, "is damaged"),
        (lying_about_its_length, "is damaged"),
        (twice, "twice"),
        (lambda p: (p.write_bytes(b"") and None) or p, "is damaged or not a zip"),
        (lambda p: p.write_bytes(b"not a zip at all") and p, "is damaged or not a zip"),
        (lambda p: p.with_name("none.zip"), "there is no such file or folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_trusted_is_refused_with_a_sentence(tmp_path, make, says):
    with pytest.raises(IntakeError, match=says) as refused:
        taken(make(tmp_path / "s.zip"), tmp_path)
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "into").rglob("*.py"))


def test_a_symbolic_link_in_a_folder_is_refused(tmp_path):
    (tmp_path / "s" / "questions").mkdir(parents=True)
    os.symlink("/etc/passwd", tmp_path / "s" / "questions" / "sample.py")
    with pytest.raises(IntakeError, match="symbolic link"):
        taken(tmp_path / "s", tmp_path)


def test_files_without_their_folder_bring_their_helpers_along(tmp_path):
    got = taken(zipped(tmp_path / "s.zip", SOURCES | {"helper.py": b"x = 1\n"}), tmp_path)
    assert got["helper.py"] == b"x = 1\n"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "s.zip", "w", method) as archive:
        archive.writestr("questions/sample.py", "0" * 1000)
    with pytest.raises(IntakeError, match="packed in an unusual way"):
        taken(tmp_path / "s.zip", tmp_path)
