"""Did two systems do the same work?"""
from __future__ import annotations

from kit.cases import Row

# Relative and absolute distance of training losses, and distance of the last test accuracy. Systems that
# visit the same rows in the same order differ by rounding alone, unless the model draws dropout; then, and
# where batches differ, means over all rounds are compared, as single rounds are too noisy.
EXACT, NOISY, ACCURACY, NOISY_ACCURACY = (0.01, 0.002), (0.1, 0.1), 0.02, 0.08


def differs(a: float, b: float, allowed: tuple[float, float]) -> bool:
    return not abs(a - b) <= allowed[0] * abs(a) + allowed[1]  # also true for NaN


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def compare_curves(ours: list[float], theirs: list[float], exact: bool) -> str:
    if len(ours) != len(theirs):
        return f"{len(theirs)} rounds, not {len(ours)}"
    if not exact:
        ours, theirs = [mean(ours)], [mean(theirs)]
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if differs(a, b, EXACT if exact else NOISY):
            where = f"in round {i + 1}" if exact else "on average"
            return f"train loss {b:.5g} {where}, not {a:.5g}"
    return ""


def compare_work(ours: Row, theirs: Row, dropout: bool) -> str:
    """Empty when the work was the same, else the first difference."""
    if theirs["parameters"] != ours["parameters"]:
        return f"{theirs['parameters']} parameters, not {ours['parameters']}"
    if theirs["examples"] != ours["examples"]:
        return f"{theirs['examples']} examples, not {ours['examples']}"
    exact = theirs["same"] == "rows" and not dropout
    if theirs["same"] != "amount":
        wrong = compare_curves([loss for loss, _ in ours["train"]], [loss for loss, _ in theirs["train"]], exact)
        if wrong:
            return wrong
    a, b = ours["test"][-1][2], theirs["test"][-1][2]
    if differs(a, b, (0, ACCURACY if exact else NOISY_ACCURACY)):
        return f"test accuracy {b:.4f}, not {a:.4f}"
    return ""


def how_checked(theirs: Row, dropout: bool) -> str:
    """What an equal outcome was judged by, in words."""
    if theirs["same"] == "amount":
        return "parameters, examples and last test accuracy"
    if theirs["same"] == "rows" and not dropout:
        return "each round's training loss to 1 %, same rows in the same batches"
    reason = "its own dropout" if theirs["same"] == "rows" else "its own order of rows"
    return f"mean training loss to 10 %, last test accuracy ({reason})"
