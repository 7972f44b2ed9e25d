"""Files on the real file system."""

import os
import stat
import subprocess
import sys
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


def test_leftovers_of_a_file_are_removed_and_no_others(tmp_path: Path) -> None:
    for name in (".a.bin.0f", ".b.bin.0f", "a.bin"):
        (tmp_path / name).write_bytes(b"")
    files.remove_leftovers(tmp_path / "a.bin")
    assert sorted(os.listdir(tmp_path)) == [".b.bin.0f", "a.bin"]
