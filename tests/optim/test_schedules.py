"""Schedules against closed forms, and what they go on from."""

import math

import numpy as np
import pytest
from optim.bowl import Bowl

from tinygrad_edge import optim
from tinygrad_edge.errors import DataError


def optimizer(lr=0.8):
    return optim.SGD(Bowl().parameters(), lr)


def rates(schedule, count):
    found = []
    for _ in range(count):
        found.append(schedule.optimizer.lr)
        schedule.step()
    return found


def test_warm_up_rises_to_the_base_and_stays():
    schedule = optim.Schedule(optimizer(), warmup=3)
    assert rates(schedule, 6) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_steps_decay():
    # As torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5).
    schedule = optim.StepLR(optimizer(), step_size=2, gamma=0.5)
    assert rates(schedule, 6) == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])
    schedule = optim.StepLR(optimizer(), step_size=2, warmup=1)
    assert rates(schedule, 6) == pytest.approx([0.4, 0.8, 0.8, 0.08, 0.08, 0.008])


def test_cosine_descends_and_stays():
    # The first five as torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4, 0.2).
    schedule = optim.CosineAnnealingLR(optimizer(), T_max=4, eta_min=0.2)
    expected = [0.2 + 0.6 * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(5)]
    assert rates(schedule, 7) == pytest.approx([*expected, 0.2, 0.2])
    schedule = optim.CosineAnnealingLR(optimizer(), T_max=4, eta_min=0.2, warmup=1)
    assert rates(schedule, 6) == pytest.approx([0.4, *expected])


@pytest.mark.parametrize(
    "make",
    [
        lambda o: optim.Schedule(o, warmup=4),
        lambda o: optim.StepLR(o, 2, warmup=1),
        lambda o: optim.CosineAnnealingLR(o, 9, 0.1, warmup=2),
    ],
)
def test_a_schedule_goes_on_to_the_bit(make):
    whole = make(optimizer())
    expected = rates(whole, 12)
    part = make(optimizer())
    rates(part, 5)
    state = {name: np.asarray(a) for name, a in part.state_dict().items()}
    other = make(optimizer(lr=0.3))
    other.load_state_dict(state)
    assert rates(other, 7) == expected[5:]
    # A pure function of the step: the schedule may be asked for any of them.
    assert [whole.rate(t) for t in range(12)] == expected


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_reduces_after_patience(mode):
    sign = 1 if mode == "min" else -1
    schedule = optim.ReduceLROnPlateau(optimizer(), mode, factor=0.5, patience=1, min_lr=0.15)
    found = []
    for metric in (-1, -2, -2, -2.00001, -3, -3, math.nan, -3, -3, -3, -3, -3, -3):
        schedule.step(sign * metric)
        found.append(schedule.optimizer.lr)
    # -2.00001 is better than -2 by less than the threshold of 1e-4 of it.
    after = [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.15, 0.15, 0.15, 0.15, 0.15]
    assert found == pytest.approx(after)


def test_plateau_goes_on():
    def make(lr):
        return optim.ReduceLROnPlateau(optimizer(lr), factor=0.5, patience=1)

    metrics = [3, 2, 2, 2, 2, 1, 1, 1]
    whole = make(0.8)
    for metric in metrics:
        whole.step(metric)
    part, other = make(0.8), make(0.1)
    for metric in metrics[:3]:
        part.step(metric)
    other.load_state_dict(part.state_dict())
    for metric in metrics[3:]:
        other.step(metric)
    assert other.optimizer.lr == whole.optimizer.lr == 0.2
    assert (other.best, other.bad_steps) == (whole.best, whole.bad_steps)


def test_another_state_is_refused():
    state = optim.StepLR(optimizer(), 2).state_dict()
    plateau = optim.ReduceLROnPlateau(optimizer())
    with pytest.raises(DataError, match=r"ReduceLROnPlateau\.load_state_dict: expected .*'best'"):
        plateau.load_state_dict(state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: optim.Schedule(o, warmup=-1), "Schedule: warmup must not be negative, got -1"),
        (lambda o: optim.StepLR(o, 0), "StepLR: step_size must be at least 1, got 0"),
        (lambda o: optim.CosineAnnealingLR(o, 0), "T_max must be at least 1, got 0"),
        (lambda o: optim.CosineAnnealingLR(o, 5, 1.0), "eta_min must be between 0 and 0.8, got 1"),
        (lambda o: optim.ReduceLROnPlateau(o, "up"), "mode must be 'min' or 'max', got 'up'"),
        (lambda o: optim.ReduceLROnPlateau(o, factor=1.0), r"factor must be in \[0, 1\), got 1.0"),
        (lambda o: optim.ReduceLROnPlateau(o, patience=-1), "patience, threshold, min_lr must not"),
    ],
)
def test_impossible_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(optimizer())
