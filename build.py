"""Compile ``csrc/`` and leave the rest of packaging to setuptools.

This is the project's PEP 517 build backend. ``pip install .``, ``pip install -e .`` and
``pip wheel .`` go through it; ``python build.py`` compiles in place, for work in a clone.

Without a usable C compiler the package is built without its native module: it still runs, on
NumPy, and ``tinygrad-edge doctor`` says why. ``CC`` chooses the compiler.
"""

import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from setuptools import Extension, build_meta, setup
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.errors import CCompilerError, DistutilsError
from setuptools._distutils.sysconfig import customize_compiler

# Contraction would turn a * b + c into another number on some processors only; the two -fno flags
# let plain loops be vectorised and change no result.
COMPILE = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
COMPILE += ["-fvisibility=hidden", "-g0"]
THREADS = [] if sys.platform == "win32" else ["-pthread"]
LIBRARIES = [] if sys.platform == "win32" else ["m"]

# What the kernels ask of a compiler: GCC's vector extensions (GCC 9, Clang 9 and later).
PROBE = """
#include <stdint.h>
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
int main(void)
{
    vf x = {1.0f, 2.0f, 3.0f, 4.0f};
    return __builtin_convertvector(x > 2.5f, vf)[3] == 0.0f;
}
"""


def compiler_works() -> bool:
    """Compile and link a small program that needs what the kernels need."""
    compiler = new_compiler()
    customize_compiler(compiler)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(PROBE, encoding="utf-8")
        try:
            objects = compiler.compile([str(source)], folder, extra_postargs=COMPILE + THREADS)
            compiler.link_executable(objects, "probe", folder, extra_postargs=THREADS)
        except (CCompilerError, DistutilsError) as error:
            print(f"tinygrad_edge: built without native code: {error}", file=sys.stderr)
            return False
    return True


def native_module() -> Extension:
    """Describe ``tinygrad_edge._native``: the kernels, and the binding that cffi writes."""
    from cffi import FFI  # needed for compiling alone, so that a source archive needs none

    ffi = FFI()
    ffi.cdef(Path("csrc/kernels.h").read_text(encoding="utf-8"))
    ffi.set_source("tinygrad_edge._native", '#include "tge.h"')
    binding = Path("build", "_native.c")
    binding.parent.mkdir(exist_ok=True)
    ffi.emit_c_code(str(binding))

    one_abi = not sysconfig.get_config_var("Py_GIL_DISABLED")  # free-threaded Python has no abi3
    return Extension(
        "tinygrad_edge._native",
        sources=[str(binding), *sorted(str(path) for path in Path("csrc").glob("*.c"))],
        depends=[__file__, *(str(path) for path in Path("csrc").rglob("*.[ch]"))],
        include_dirs=["csrc"],
        define_macros=[("Py_LIMITED_API", "0x030A0000")] if one_abi else [],
        py_limited_api=one_abi,
        extra_compile_args=COMPILE + THREADS,
        extra_link_args=THREADS,
        libraries=LIBRARIES,
    )


def arguments() -> dict[str, Any]:
    """Return what ``setup`` is told beyond pyproject.toml."""
    if not compiler_works():
        return {}
    module = native_module()
    options = {"bdist_wheel": {"py_limited_api": "cp310"}} if module.py_limited_api else {}
    return {"ext_modules": [module], "options": options}


class _Backend(build_meta._BuildMetaBackend):  # type: ignore[misc]
    """setuptools' own backend, with the native module added where something is compiled."""

    def run_setup(self, setup_script: str = "setup.py") -> None:
        compiles = {"bdist_wheel", "editable_wheel"} & set(sys.argv)
        setup(**(arguments() if compiles else {}))


_backend = _Backend()
build_wheel = _backend.build_wheel
build_editable = _backend.build_editable
build_sdist = _backend.build_sdist
prepare_metadata_for_build_wheel = _backend.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = _backend.prepare_metadata_for_build_editable


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Return nothing: pyproject.toml lists all that a build needs."""
    return []


get_requires_for_build_editable = get_requires_for_build_wheel
get_requires_for_build_sdist = get_requires_for_build_wheel


if __name__ == "__main__":
    setup(script_args=["build_ext", "--inplace"], **arguments())
