"""Every error the library raises on purpose.

::

    TinygradEdgeError
    ├── ShapeError        shapes or axes that do not fit          (also a ValueError)
    ├── DTypeError        element types that do not fit           (also a TypeError)
    ├── GraphError        a graph that breaks its own rules       (also a RuntimeError)
    ├── DataError         labels, indices or data sets            (also a ValueError)
    ├── NonFiniteError    NaN or infinity where a number must be  (also an ArithmeticError)
    ├── BudgetError       a byte budget that cannot be kept       (also a ValueError)
    ├── FileError         a file that is not what it should be    (also a ValueError)
    ├── GradientError     a gradient that differences refute      (also an AssertionError)
    └── BuildError        native code that is missing or unfit    (also a RuntimeError)

A message says what was expected, what came, and what to do.
"""

__all__ = [
    "BudgetError",
    "BuildError",
    "DTypeError",
    "DataError",
    "FileError",
    "GradientError",
    "GraphError",
    "NonFiniteError",
    "ShapeError",
    "TinygradEdgeError",
]


class TinygradEdgeError(Exception):
    """Base of all errors of this library."""


class ShapeError(TinygradEdgeError, ValueError):
    """Shapes or axes do not fit an operation."""


class DTypeError(TinygradEdgeError, TypeError):
    """Element types do not fit an operation."""


class GraphError(TinygradEdgeError, RuntimeError):
    """A graph breaks its own rules, or a value is asked for at a time when it has none."""


class DataError(TinygradEdgeError, ValueError):
    """A label, an index or a data set is not what the operation needs."""


class NonFiniteError(TinygradEdgeError, ArithmeticError):
    """A value that must be finite is NaN or infinite.

    Attributes
    ----------
    too_large : str or None
        Module path and op of a value that does not fit the format in which it is stored. Set where
        the failed step has changed nothing, so that it may be run again with another format.
    """

    def __init__(self, message: str, too_large: str | None = None) -> None:
        super().__init__(message)
        self.too_large = too_large


class BudgetError(TinygradEdgeError, ValueError):
    """A byte budget is smaller than anything that can be planned.

    Attributes
    ----------
    smallest : int
        Bytes of the smallest budget that was found.
    """

    def __init__(self, message: str, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest


class FileError(TinygradEdgeError, ValueError):
    """A file is truncated, damaged, of another format, or cannot be written."""


class GradientError(TinygradEdgeError, AssertionError):
    """A gradient is not what differences of the function say, or they can say nothing."""


class BuildError(TinygradEdgeError, RuntimeError):
    """The native runtime is missing or does not fit this processor."""
