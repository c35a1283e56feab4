from __future__ import annotations

from collections.abc import Callable

import pytest

from tools.bench.frame import timing
from tools.bench.frame.timing import Budget, alternate


def test_a_budget_allows_what_fits_into_what_is_left() -> None:
    now = 100.0
    budget = Budget(60, clock=lambda: now)
    assert budget.allows(60)
    now = 150.0
    assert budget.left == 10
    assert budget.allows(10)
    assert not budget.allows(10.5)
    now = 170.0
    assert budget.left == -10
    assert not budget.allows(0)


def test_calls_are_taken_in_turn_and_the_median_of_each_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    durations = {"a": iter((1.0, 9.0, 2.0)), "b": iter((3.0, 4.0, 5.0))}

    def elapsed(call: Callable[[], str], device: str) -> float:
        order.append(call())
        return next(durations[order[-1]])

    monkeypatch.setattr(timing, "elapsed", elapsed)
    assert alternate({"a": lambda: "a", "b": lambda: "b"}, "cpu", enough=0) == {"a": 2.0, "b": 4.0}
    assert order == ["a", "b"] * 3


def test_no_round_starts_beyond_the_most() -> None:
    calls: list[int] = []
    alternate({"a": lambda: calls.append(1)}, "cpu", least=1, most=5, enough=1e9)
    assert len(calls) == 5
