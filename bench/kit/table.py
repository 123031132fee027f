"""Figures of one case, put in order."""
from __future__ import annotations

import statistics

from kit.cases import Case, Row
from kit.check import compare_work, how_checked


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summarise(case: Case, name: str, runs: list[Row], metric: str) -> Row:
    """One system's row: the runs as they were, and the median and range of what counts."""
    rates = [r["images_per_second"] for r in runs if r["images_per_second"]]
    row = {"system": name, "version": runs[0]["version"], "settings": runs[0]["settings"], "error": None,
           "metric": metric, "value": spread([r[metric] for r in runs]), "runs": runs,
           "first_round_seconds": spread([r["first_round_seconds"] for r in runs]),
           "setup_seconds": spread([r["setup_seconds"] for r in runs]),
           "peak_memory_mb": spread([r["peak_memory_mb"] for r in runs])}
    if rates:
        row["images_per_second"] = spread(rates)
        row["seconds_a_round"] = spread([r["seconds"] / r["rounds"] for r in runs])
    if all("import_seconds" in r for r in runs):
        row["import_seconds"] = spread([r["import_seconds"] for r in runs])
    return row


def failed(name: str, error: str) -> Row:
    return {"system": name, "error": error}


def judge(case: Case, work: Row, runs: dict[str, list[Row]], errors: dict[str, str]) -> Row:
    """The case with a row for each system, ours first, then those that did the same work, then the rest."""
    dropout = work["model"] == "cnn_dropout"
    ours = summarise(case, "fedlane", runs["fedlane"], case.metric)
    rows, rest = [], [failed(name, error) for name, error in errors.items()]
    for name, results in runs.items():
        if name == "fedlane":
            continue
        wrong = next(filter(None, (compare_work(runs["fedlane"][0], r, dropout) for r in results)), "")
        if wrong:
            rest.append(failed(name, f"it did other work: {wrong}"))
            continue
        row = summarise(case, name, results, case.rival_metric or case.metric)
        row["ratio"] = case.ratio(ours["value"]["median"], row["value"]["median"])
        row["checked"] = how_checked(results[0], dropout)
        rows.append(row)
    rows.sort(key=lambda row: row["ratio"])
    return {"case": case.name, "help": case.help, "work": work, "rounds": case.rounds, "metric": case.metric,
            "higher": case.higher, "target": case.target, "systems": [ours, *rows, *rest]}


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def print_case(case: Row) -> None:
    rival = next((r["metric"] for r in case["systems"][1:] if not r["error"]), case["metric"])
    title = case["metric"] if rival == case["metric"] else f"{case['metric']} (peers: {rival})"
    print(f"  {'system':12} {title}, least .. median .. most   ratio")
    for row in case["systems"]:
        if row["error"]:
            print(f"  {row['system']:12} {row['error']}")
            continue
        value, ratio = row["value"], f"{row['ratio']:.2f}" if "ratio" in row else ""
        settings = " ".join(f"{k}={v}" for k, v in row["settings"].items())
        print(f"  {row['system']:12} {number(value['least']):>10} .. {number(value['median']):>10} .. "
              f"{number(value['most']):>10}   {ratio:>8}   {settings}")
