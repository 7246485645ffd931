import errno
import os
import subprocess
import sys

import pytest

from tinygrad_edge.errors import FileError
from tinygrad_edge.files import atomic_write


def names(folder):
    return sorted(os.listdir(folder))


def test_makes_and_replaces(tmp_path):
    path = tmp_path / "a"
    for content in (b"one", b"two"):
        with atomic_write(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["a"]


def test_old_file_stands_until_the_block_ends(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new" * 100_000)
        file.flush()
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failing_block_changes_nothing(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_full_disk_changes_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "a"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(FileError, match="cannot write .*a: File too large"):
            with atomic_write(path) as file:
                file.write(bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_disk_that_fails_at_the_sync_changes_nothing(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FileError, match="Input/output error"), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=real: (calls.append(n), f(*a)))
    with atomic_write(tmp_path / "a"):
        pass
    assert calls[:2] == ["fsync", "replace"]


KILLED = """
import os, sys
from tinygrad_edge.files import atomic_write

setattr(os, sys.argv[2], lambda *_: os._exit(9))
with atomic_write(sys.argv[1]) as file:
    file.write(bytes(100_000))
"""


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_killed_process_leaves_the_old_file(tmp_path, moment):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    assert subprocess.run([sys.executable, "-c", KILLED, path, moment]).returncode == 9
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.glob(".a.*.tmp"))) == 1


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing/a", "No such file"), ("folder", "director"), ("file/a", "Not a directory")],
)
def test_names_what_cannot_be_written(tmp_path, path, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=f"cannot write .*{path}: .*{reason}"):
        with atomic_write(tmp_path / path):
            pass
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_symbolic_link_stays(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "link").symlink_to("a")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"new"
