"""Choices for less memory than any proposal needs: a search that may pass through larger ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from .course import Choice, Course, Marks, simulate
from .lifetimes import Lifetimes

__all__ = ["Moves", "squeezed"]

#: Marks to try, from a course and a half moment that is too large.
Moves = Callable[[Course, int], Iterator[Marks]]

#: The bytes that the search heads for, of what is the smallest so far: it finds more on the way
#: there than on the way to less ambitious ones.
_AIM = 0.9
#: Moments that each step tries to free, besides the worst; steps, and how many may bring nothing.
_MOMENTS, _STEPS, _PATIENCE = 4, 80, 20


def squeezed(
    lives: Lifetimes, starts: Iterable[Choice], moves: Moves, live_bytes: int
) -> list[Choice]:
    """Choices that need fewer bytes than so many.

    From each start, the marks that bring the sum of what is too much at all moments lowest, be it
    higher than before, and none a second time: a tabu search (Glover 1989, "Tabu Search - Part I").
    """
    found: dict[Marks, Choice] = {}
    for start in starts:
        for choice in _search(lives, start, moves, _AIM * live_bytes):
            if choice.live_bytes < live_bytes and np.isfinite(choice.seconds):
                found[choice.marks] = choice
    return list(found.values())


def _search(lives: Lifetimes, start: Choice, moves: Moves, aim: float) -> Iterator[Choice]:
    course = simulate(lives, start.marks)
    tried, least, stale = {start.marks}, _excess(course, aim), 0
    for _ in range(_STEPS):
        candidates = dict.fromkeys(
            marks
            for moment in _moments(course, aim)
            for marks in moves(course, moment)
            if marks not in tried
        )
        if not candidates:
            return
        courses = (simulate(lives, marks) for marks in candidates)
        course = min(courses, key=lambda c: (_excess(c, aim), c.choice.seconds))
        tried.add(course.choice.marks)
        yield course.choice
        excess = _excess(course, aim)
        stale = 0 if excess < least else stale + 1
        least = min(least, excess)
        if not excess or stale > _PATIENCE:
            return


def _excess(course: Course, aim: float) -> float:
    """What is too much, of all half moments; infinite where a value cannot be made again."""
    if not np.isfinite(course.choice.seconds):
        return np.inf
    return float(np.maximum(course.live - aim, 0).sum())


def _moments(course: Course, aim: float) -> dict[int, None]:
    """The worst half moment, and some from the first to the last that is too large."""
    over = np.flatnonzero(course.live > aim)
    some = over[np.linspace(0, len(over) - 1, _MOMENTS).astype(int)] if len(over) else over
    return dict.fromkeys([int(course.live.argmax()), *map(int, some)])
