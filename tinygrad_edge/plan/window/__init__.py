"""The window: a plan as a page to look into, as a picture, as data."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DataError
from ...files import atomic_write
from .data import Column, describe
from .page import page
from .picture import picture

if TYPE_CHECKING:
    from ..plan import Plan

__all__ = ["in_notebook", "save"]

_PICTURES = (".svg", ".png")


def save(
    path: str | PathLike[str], plans: Sequence[Plan], columns: Sequence[Column] | None = None
) -> None:
    """Write one plan, or two whose calls stand beside each other in `columns`, to a file.

    Raises
    ------
    DataError
        The suffix is none of ``.html``, ``.svg``, ``.png`` and ``.json``, or a picture is asked for
        without matplotlib.
    """
    target = Path(path)
    if target.suffix in _PICTURES:
        contents = picture(plans, target.suffix[1:], columns)
    elif target.suffix == ".html":
        contents = page(describe(plans, target.stem, columns)).encode()
    elif target.suffix == ".json":
        contents = json.dumps(describe(plans, target.stem, columns), indent=1).encode()
    else:
        known = ".html, .svg, .png or .json"
        raise DataError(f"expected a file that ends in {known}, got {target.name!r}")
    with atomic_write(target) as file:
        file.write(contents)


def in_notebook(plans: Sequence[Plan], columns: Sequence[Column] | None = None) -> str:
    """The page in a frame of its own, so that its styles and its keys stay inside."""
    inside = html.escape(page(describe(plans, "plan", columns)))
    style = "width:100%;height:860px;border:0"
    return f'<iframe srcdoc="{inside}" style="{style}" title="Memory of a training step"></iframe>'
