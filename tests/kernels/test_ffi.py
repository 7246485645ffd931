"""What passes into C is checked first."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edge.errors import BuildError, DTypeError
from tinygrad_edge.runtime import _ffi

needs_native = pytest.mark.skipif(not _ffi.available(), reason="the native module was not built")


@needs_native
def test_every_kernel_has_a_test():
    tests = "".join(f.read_text(encoding="utf-8") for f in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in _ffi.kernel_names() if f'"{name}"' not in tests] == []


@needs_native
def test_pointer_refuses_what_c_would_misread():
    good = np.zeros((2, 3), np.float32)
    assert _ffi.ffi.cast("uintptr_t", _ffi.pointer(good)) == good.ctypes.data
    with pytest.raises(DTypeError, match="complex64"):
        _ffi.pointer(good.astype(np.complex64))
    with pytest.raises(DTypeError, match=">f4"):
        _ffi.pointer(good.astype(">f4"))
    with pytest.raises(ValueError, match="contiguous"):
        _ffi.pointer(good[:, 1:])
    good.flags.writeable = False
    _ffi.pointer(good)
    with pytest.raises(ValueError, match="read-only"):
        _ffi.pointer(good, writable=True)


@needs_native
def test_params_are_the_bytes_of_the_struct():
    fields = {"outer": 2, "length": 3, "itemsize": 4}
    expected = np.array([2, 3, 0, 0, 4], np.int64).tobytes()  # itemsize and reserved share the last
    assert _ffi.params("tge_take_params", fields) == expected
    by_name = _ffi.params("tge_full_params", {"dtype": "TGE_INT32"})
    assert by_name == _ffi.params("tge_full_params", {"dtype": 4})


@needs_native
def test_params_refuse_unknown_fields_and_names():
    with pytest.raises(KeyError, match="rows"):
        _ffi.params("tge_matmul_params", {"rows": 1})
    with pytest.raises(AttributeError, match="TGE_INT5"):
        _ffi.params("tge_full_params", {"dtype": "TGE_INT5"})


@needs_native
def test_an_unknown_kernel_is_a_stale_build():
    with pytest.raises(BuildError, match="no kernel 'matmul_f128'"):
        _ffi.kernel("matmul_f128")


@needs_native
def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(BuildError, match="'sse9' here; expected one of .*generic"):
        _ffi.choose_isa("sse9")


def isa_chosen_by(name):
    """Run a process with TINYGRAD_EDGE_ISA set and return it."""
    program = "from tinygrad_edge.runtime import _ffi; print(_ffi.isa(), *_ffi.isas())"
    env = os.environ | {_ffi.ISA_VARIABLE: name, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@needs_native
def test_the_environment_chooses_the_instruction_set():
    assert isa_chosen_by("generic").stdout.split()[0] == "generic"
    chosen, best, *_ = isa_chosen_by("").stdout.split()
    assert chosen == best
    assert "TINYGRAD_EDGE_ISA=avx9 is not" in isa_chosen_by("avx9").stderr
