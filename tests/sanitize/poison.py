"""A pytest plugin for the address sanitizer: nothing may touch the guards around an operand.

The kernel tests see what is written there. With the guards poisoned, a read is seen as well, and a
vector that reaches one element too far ends the run with a report. `.ci/run` loads this file.
"""

import ctypes
import weakref

from kernels import kernel_call


def _sanitizer(name):
    """A function of libasan, which is in the process because it was preloaded."""
    function = ctypes.CDLL(None)[name]
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return function


poison = _sanitizer("__asan_poison_memory_region")
unpoison = _sanitizer("__asan_unpoison_memory_region")


class Guarded(kernel_call.Guarded):
    """An operand whose guards are forbidden ground for as long as it lives."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for guard in self.before, self.after:
            poison(guard.ctypes.data, guard.nbytes)
            weakref.finalize(guard, unpoison, guard.ctypes.data, guard.nbytes)


kernel_call.Guarded = Guarded
