"""The thread pool, seen through a kernel that uses it."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kernels.test_matmul import matmul, operands

from tinygrad_edge.runtime import _ffi

SHAPE = (300, 260, 200)  # several chunks


def test_threads_are_at_least_one(threads):
    with pytest.raises(ValueError, match="at least 1 thread, got 0"):
        _ffi.set_threads(0)
    threads(3)
    assert _ffi.threads() == 3


def test_threads_may_change_between_calls(threads):
    a, b = operands(*SHAPE)
    expected = matmul(a, b)
    for count in (4, 1, 2, 7, 2, 1, 3):
        threads(count)
        assert matmul(a, b).tobytes() == expected.tobytes()


def test_threads_of_the_program_may_call_at_the_same_time(threads):
    threads(2)
    inputs = [operands(*SHAPE, seed=seed) for seed in range(4)]
    expected = [matmul(a, b).tobytes() for a, b in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            results = pool.map(lambda pair: matmul(*pair).tobytes(), inputs)
            assert list(results) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_a_pool_of_its_own(threads):
    """A lock that the parent's pool held would hang the child: hence the timeout."""
    program = """
        import os, sys, warnings
        import numpy as np
        from kernels.test_matmul import matmul, operands
        from tinygrad_edge.runtime import _ffi

        warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads
        _ffi.set_threads(3)
        a, b = operands(300, 260, 200)
        expected = matmul(a, b).tobytes()
        for generation in range(3):
            child = os.fork()
            if child:
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                sys.exit(status or matmul(a, b).tobytes() != expected)
            if matmul(a, b).tobytes() != expected:
                sys.exit(1)
            if os.path.exists("/proc/self/task") and len(os.listdir("/proc/self/task")) != 3:
                sys.exit(1)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    path = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=path, timeout=60, check=False)
    assert done.returncode == 0


def test_each_chunk_runs_once(threads):
    """An addition in place tells a chunk that ran twice, not at all, or after the return."""
    threads(4)
    x, one = np.zeros(1 << 20, np.float32), np.ones(1, np.float32)
    fields = {
        "op": "TGE_ADD",
        "inputs": 2,
        "ndim": 1,
        "shape": [x.size],
        "strides": [[1], [1], [0]],
    }
    params = _ffi.params("tge_elementwise_params", fields)
    pointers = [_ffi.pointer(array, writable=True) for array in (x, x, one)]
    for call in range(1, 201):
        assert _ffi.call("elementwise_f32", pointers, params) == 0
        assert x.min() == x.max() == call


def test_the_last_chunk_is_waited_for(threads):
    """Chunks so long that the caller has to sleep until another thread has done its last."""
    threads(3)
    m, n, k = 290, 128, 2048
    a, b, c = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.empty((m, n), np.float32)
    params = _ffi.params("tge_matmul_params", {"batch": 1, "m": m, "n": n, "k": k})
    workspace = np.empty(_ffi.workspace("matmul_f32", params, 3), np.uint8)
    pointers = [_ffi.pointer(array, writable=True) for array in (c, a, b, workspace)]
    for _ in range(30):
        c[...] = np.nan
        assert _ffi.call("matmul_f32", pointers, params) == 0
        assert (c == k).all()
