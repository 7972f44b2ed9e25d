"""Files on the real file system."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dsr_deploy import files
from dsr_deploy.errors import UserError


@pytest.mark.parametrize(("umask", "mode"), [("022", 0o644), ("077", 0o600), ("002", 0o664)])
def test_the_umask_decides_who_may_read_a_file(tmp_path: Path, umask: str, mode: int) -> None:
    # in a process of its own: the umask belongs to the whole process
    script = (
        f"import os, pathlib; os.umask(0o{umask}); from dsr_deploy import files; "
        "files.write_bytes(pathlib.Path('new') / 'a.bin', b'1')"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert stat.S_IMODE((tmp_path / "new" / "a.bin").stat().st_mode) == mode


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for content in (b"1", b"22"):
        files.write_bytes(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.mkdir()
    with pytest.raises(UserError, match=r"a\.bin: cannot be written \(Is a directory\)$"):
        files.write_bytes(path, b"1")
    assert os.listdir(tmp_path) == ["a.bin"]


UNREADABLE = [
    (b'{"a": 1, "a": 2}', "a field occurs twice in one object"),
    (b"NaN", "NaN is not a number"),
    (b"-1e999", "-1e999 is more than a double holds"),
    (b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
    (b'"\xff"', "byte 1 is not UTF-8"),
    ('"ü"'.encode("utf-16"), "byte 0 is not UTF-8"),
    (b"", "Expecting value: line 1 column 1 (char 0)"),
]


@pytest.mark.parametrize(("content", "reason"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_json_that_is_not_whole_is_refused_with_a_short_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        files.read_json(path)
    assert str(refused.value) == f"{path}: not valid JSON ({reason}); run its stage again"
    path.write_bytes(b'{"a": 1}\n\n' + (content or b"]") + b"\n")
    with pytest.raises(UserError, match=r"a\.json: line 3 is not valid JSON \(") as refused:
        files.read_json_lines(path)
    assert len(str(refused.value)) < 400


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    value = {"text": "ü\n", "numbers": [1, -2.5, 1e300, None, True]}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value
    files.write_text(tmp_path / "a.jsonl", '{"a": 1}\n[2]\n')
    assert files.read_json_lines(tmp_path / "a.jsonl") == [{"a": 1}, [2]]


def test_a_file_beyond_its_limit_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(files.MAX_JSON + 1)  # sparse: it takes no room
    with pytest.raises(UserError) as refused:
        files.read_json(path)
    assert str(refused.value) == (
        f"{path}: cannot be read (67,108,865 bytes, at most 67,108,864 are allowed)"
    )


@pytest.mark.parametrize("read", [files.read_json, files.read_json_lines, files.digest])
def test_what_is_no_regular_file_is_not_waited_for(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.json"
    os.mkfifo(path)
    with pytest.raises(UserError) as refused:
        read(path)
    assert str(refused.value) == f"{path}: cannot be read (it is a FIFO, not a regular file)"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("~/runs/x", "{home}/runs/x"),
        ("~", "{home}"),
        ("~old/x", "~old/x"),
        ("~root", "~root"),
        ("a/~/x", "a/~/x"),
        ("./~/x", "{here}/~/x"),
        ("", "."),
    ],
)
def test_only_a_leading_tilde_and_slash_mean_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    found = files.at_home(given)
    assert str(found) == expected.format(home=tmp_path / "home", here=tmp_path)


def test_without_a_home_the_tilde_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: str) -> str:
        return "~"

    monkeypatch.setattr(os.path, "expanduser", unknown)
    message = "~/x: ~ has no home directory here; give the full path"
    with pytest.raises(UserError, match=f"^{message}$"):
        files.at_home("~/x")
