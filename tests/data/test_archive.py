import dataclasses
import functools
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import numpy as np
import pytest

from tinygrad_edge import data
from tinygrad_edge.data import _cifar, _har
from tinygrad_edge.data._archive import Archive
from tinygrad_edge.errors import DataError, FileError

FILES = {"set/a.bin": b"a" * 100_000, "set/deep down/b.txt": b"b", "set/unwanted.html": b"c"}
WANTED = ("set/a.bin", "set/deep down/b.txt")


def tarred(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that puts a file on a server of this machine, and gives its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def write(name, content):
            (folder / name).write_bytes(content)
            return f"http://127.0.0.1:{server.server_port}/{name}"

        yield write
        server.shutdown()
        thread.join()


def archive(url, content, members=WANTED, inner=None):
    return Archive((url,), hashlib.sha256(content).hexdigest(), members, inner)


def there(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


EXPECTED = {name: FILES[name] for name in WANTED}
KINDS = {
    "tar": ("set.tar.gz", tarred(FILES), None),
    "zip": ("my+set.zip", zipped(FILES), None),
    "zip in zip": ("set.zip", zipped({"The set.zip": zipped(FILES), "readme": b""}), "The set.zip"),
}


@pytest.mark.parametrize(("name", "content", "inner"), KINDS.values(), ids=KINDS)
def test_takes_out_what_is_wanted_and_leaves_nothing_else(publish, tmp_path, name, content, inner):
    url = publish(name, content)
    archive(url, content, inner=inner).fetch(tmp_path / "data")
    assert there(tmp_path / "data") == EXPECTED


def test_what_is_there_is_neither_asked_for_nor_replaced(publish, tmp_path):
    content = tarred(FILES)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.bin").write_bytes(b"mine")
    archive(publish("set.tar.gz", content), content).fetch(tmp_path)
    assert (tmp_path / "set" / "a.bin").read_bytes() == b"mine"
    assert (tmp_path / "set" / "deep down" / "b.txt").read_bytes() == b"b"
    archive("http://127.0.0.1:1/nobody", b"").fetch(tmp_path)


def test_an_archive_that_somebody_put_there_is_used_and_stays(tmp_path):
    content = tarred(FILES)
    (tmp_path / "set.tar.gz").write_bytes(content)
    archive("http://127.0.0.1:1/set.tar.gz", content).fetch(tmp_path)
    assert there(tmp_path) == {**EXPECTED, "set.tar.gz": content}


def test_another_content_leaves_nothing(publish, tmp_path):
    url = publish("set.tar.gz", tarred({"set/a.bin": b"not this"}))
    with pytest.raises(DataError, match=f"cannot download set.tar.gz .{url}: its sha256 is"):
        archive(url, tarred(FILES)).fetch(tmp_path / "data")
    assert there(tmp_path / "data") == {}


def test_a_full_disk_leaves_only_whole_files(publish, tmp_path):
    content = tarred(FILES)
    (tmp_path / "data" / "set" / "deep down").mkdir(parents=True)
    (tmp_path / "data" / "set" / "deep down" / "b.txt").mkdir()  # in the way of the second
    with pytest.raises(FileError, match="cannot write .*b.txt"):
        archive(publish("set.tar.gz", content), content).fetch(tmp_path / "data")
    assert there(tmp_path / "data") == {"set/a.bin": FILES["set/a.bin"]}


# ---- the published ones, in small


def test_cifar10_is_downloaded_once(publish, tmp_path, monkeypatch):
    records = np.random.default_rng(0).integers(0, 10, (4, 3073), dtype=np.uint8).tobytes()
    content = tarred(dict.fromkeys(_cifar.CIFAR10.members, records))
    url = publish("cifar-10-binary.tar.gz", content)
    small = dataclasses.replace(
        _cifar.CIFAR10, urls=(url,), sha256=hashlib.sha256(content).hexdigest()
    )
    monkeypatch.setattr(_cifar, "CIFAR10", small)
    assert data.download("cifar10", tmp_path / "own") == tmp_path / "own" / "cifar-10-batches-bin"
    assert len(data.load("cifar10", tmp_path / "own").train) == 20
    monkeypatch.delenv("TINYGRAD_EDGE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(data.load("cifar10").test) == 4
    publish("cifar-10-binary.tar.gz", b"gone")
    assert len(data.load("cifar10").test) == 4


def test_uci_har_is_downloaded_once(publish, tmp_path, monkeypatch):
    line = b" 1.0e+000" * 128 + b"\n"
    inner = {n: b"1\n" if "/y_" in n else line for n in _har.UCI_HAR.members}
    content = zipped({"UCI HAR Dataset.zip": zipped(inner), "UCI HAR Dataset.names": b""})
    url = publish("human+activity.zip", content)
    small = dataclasses.replace(
        _har.UCI_HAR, urls=(url,), sha256=hashlib.sha256(content).hexdigest()
    )
    monkeypatch.setattr(_har, "UCI_HAR", small)
    assert data.download("uci_har", tmp_path) == tmp_path / "UCI HAR Dataset"
    publish("human+activity.zip", b"gone")
    assert len(data.load("uci_har", tmp_path).train) == 1
    assert not list(tmp_path.glob("*.zip"))


def test_the_published_archives_are_named_whole():
    for published in (_cifar.CIFAR10, _har.UCI_HAR):
        assert all(url.startswith("https://") for url in published.urls)
        assert len(published.sha256) == 64
    assert len(_cifar.CIFAR10.members) == 6
    assert len(_har.UCI_HAR.members) == 20
