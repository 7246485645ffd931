import hashlib
import http.server
import os
import sys
import threading

import pytest

from tinygrad_edge.data._download import fetch
from tinygrad_edge.errors import DataError, FileError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(http.server.BaseHTTPRequestHandler):
    """Answers by the path: /whole, /other, /cut (breaks off), /missing."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers["User-Agent"]))
        if self.path == "/missing":
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        body = {"/whole": CONTENT, "/other": CONTENT[::-1], "/cut": CONTENT[:1000]}[self.path]
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(monkeypatch):
    """A server on this machine: its address, and the requests that it got."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()
        thread.join()


def test_downloads_into_a_new_folder(mirror, tmp_path, capfd):
    path = tmp_path / "a" / "b" / "file.gz"
    fetch([f"{mirror.url}/whole"], path, SHA256)
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["file.gz"]
    assert mirror.requests == [("/whole", "tinygrad_edge")]
    assert capfd.readouterr() == ("", "")  # this is not a terminal


def test_takes_the_first_mirror_that_has_the_file(mirror, tmp_path):
    paths = ["/missing", "/other", "/cut", "/whole", "/whole"]
    fetch([mirror.url + path for path in paths], tmp_path / "file.gz", SHA256)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert [path for path, _ in mirror.requests] == paths[:4]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/missing", "HTTP Error 404: Not Found"),
        ("/other", f"its sha256 is {hashlib.sha256(CONTENT[::-1]).hexdigest()}, not {SHA256}"),
        ("/cut", f"its sha256 is {hashlib.sha256(CONTENT[:1000]).hexdigest()}, not {SHA256}"),
    ],
)
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failed_download_leaves_nothing_new(mirror, tmp_path, path, answer, old):
    if old:
        (tmp_path / "file.gz").write_bytes(old)
    match = f"cannot download file.gz .*{path}: .*{answer}.* put it into {tmp_path}"
    with pytest.raises(DataError, match=match):
        fetch([mirror.url + path], tmp_path / "file.gz", SHA256)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == ({"file.gz": old} if old else {})


def test_no_network_leaves_not_even_a_folder(mirror, tmp_path):
    url = f"http://127.0.0.1:{mirror.server_port}"
    mirror.shutdown()
    mirror.server_close()
    with pytest.raises(DataError, match="Connection refused"):
        fetch([f"{url}/whole"], tmp_path / "mnist" / "file.gz", SHA256)
    assert not os.listdir(tmp_path)


def test_what_is_there_is_not_asked_for(tmp_path):
    (tmp_path / "file.gz").write_bytes(CONTENT)
    fetch([], tmp_path / "file.gz", SHA256)


def test_what_is_there_and_wrong_is_replaced(mirror, tmp_path):
    (tmp_path / "file.gz").write_bytes(CONTENT[1:])
    fetch([f"{mirror.url}/whole"], tmp_path / "file.gz", SHA256)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


def test_a_disk_that_cannot_be_written_is_not_the_mirrors_fault(mirror, tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(FileError, match="cannot make the folder .*taken"):
        fetch([f"{mirror.url}/whole"] * 2, tmp_path / "taken" / "file.gz", SHA256)
    assert len(mirror.requests) == 1


@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_shows_a_bar_where_rich_is(mirror, tmp_path, monkeypatch, capfd, rich):
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fetch([f"{mirror.url}/whole"], tmp_path / "file.gz", SHA256)
    output = capfd.readouterr()
    assert ("file.gz" in output.err) == rich
    assert output.out == ""
