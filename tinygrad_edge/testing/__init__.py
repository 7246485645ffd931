"""For tests: gradients against differences, modules as functions of their parameters.

Strategies for hypothesis (``strategies``), gradients at drawn points (``drawn``) and a fixture for
pytest (``plugin``) are imported by name: nothing else here needs more than NumPy.
"""

from .functional_call import functional_call
from .gradcheck import gradcheck

__all__ = ["functional_call", "gradcheck"]
