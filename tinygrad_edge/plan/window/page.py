"""The page: one file, assembled from the readable ones beside this."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

__all__ = ["page"]

_SCRIPTS = ("model.js", "chart.js", "ladder.js", "window.js")


def page(description: dict[str, Any]) -> str:
    """Give the HTML of a description made by `describe`."""
    data = json.dumps(description, separators=(",", ":"))
    parts = {
        "style": _read("window.css"),
        # Names are the user's: none may end the data or begin a comment.
        "data": data.replace("<", "\\u003c"),
        "script": "\n".join(map(_read, _SCRIPTS)),
    }
    text = _read("window.html")
    for name, part in parts.items():
        before, marker, after = text.partition(f"<!-- {name} -->")
        assert marker, name
        text = before + part + after
    return text


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
