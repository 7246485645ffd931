"""Calls are timed one by one; the times outlive the process."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge import files, timing
from tinygrad_edge.errors import FileError
from tinygrad_edge.op import Kernel
from tinygrad_edge.runtime import _ffi


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def test_times_are_added_and_replaced():
    assert timing.load("avx2", 2) == {}
    timing.store("avx2", 2, {"a": 1.0, "b": 2.0})
    timing.store("avx2", 2, {"b": 3.0, "c": 4.0})
    assert timing.load("avx2", 2) == {"a": 1.0, "b": 3.0, "c": 4.0}
    assert timing.load("avx2", 1) == timing.load("avx512", 2) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": "fast"}', b'{"a": null}', b"\xff"])
def test_a_damaged_file_is_none(content):
    path = timing.store("avx2", 1, {"a": 1.0})
    path.write_bytes(content)
    assert timing.load("avx2", 1) == {}


def test_no_folder_to_write_to(cache, monkeypatch):
    cache.write_text("a file")
    with pytest.raises(FileError, match="cannot make the folder"):
        timing.store("avx2", 1, {})
    monkeypatch.setattr(files, "cache_folder", lambda: None)
    assert timing.load("avx2", 1) == {}
    with pytest.raises(FileError, match="set XDG_CACHE_HOME"):
        timing.store("avx2", 1, {})


def test_a_signature_tells_calls_apart_by_all_of_their_parameters():
    def signature(**params):
        return timing.signature(Kernel("copy", "tge_copy_params", params))

    assert signature(ndim=1, shape=[4]) == signature(shape=(4,), ndim=np.int64(1))
    assert signature(ndim=1, shape=[4]) != signature(ndim=1, shape=[5])


@pytest.mark.skipif(not _ffi.available(), reason="the native module was not built")
def test_a_step_is_timed_call_by_call():
    layer = te.nn.Linear(1, 1, bias=False)
    optimizer = te.optim.SGD(layer.parameters(), lr=0.5)

    @te.compile
    def step(x):
        loss = layer(x).sum()
        optimizer.minimize(loss)
        return loss

    before = layer.weight.numpy().item()
    x = np.ones((1, 1), np.float32)
    found = step.time(x, runs=3)
    assert [call for call, _ in found] == step.plan(x).calls
    assert all(len(seconds) == 3 and min(seconds) > 0 for _, seconds in found)
    # The three and the one that is not counted are steps like any other.
    assert layer.weight.numpy().item() == pytest.approx(before - 4 * 0.5)
