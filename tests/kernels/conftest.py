"""Kernel tests run in every instruction set that this processor has."""

import pytest

from tinygrad_edge.runtime import _ffi


@pytest.fixture(params=_ffi.isas() if _ffi.available() else ["none"])
def isa(request):
    """Use one instruction set through a test, the portable one included."""
    if not _ffi.available():
        pytest.skip(_ffi.why_unavailable())
    before = _ffi.isa()
    _ffi.choose_isa(request.param)
    yield request.param
    _ffi.choose_isa(before)


@pytest.fixture
def threads():
    """Set the number of threads; a test leaves it as it was."""
    if not _ffi.available():
        pytest.skip(_ffi.why_unavailable())
    before = _ffi.threads()
    yield _ffi.set_threads
    _ffi.set_threads(before)
