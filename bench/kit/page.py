"""docs/benchmarks.md from the figures of bench/compare."""
from __future__ import annotations

from kit.cases import Row
from kit.table import number

WORDS = {"images_per_second": "images/s", "first_round_seconds": "seconds to the end of the first round",
         "peak_memory_mb": "peak memory, MB", "setup_seconds": "seconds to set up",
         "import_seconds": "seconds to import"}
FLAT, SETUP_LIMIT = 1.2, 10.0  # growth of memory from 1 to 1,000 clients; seconds at 10^6 clients


def worked(case: Row) -> list[Row]:
    return [row for row in case["systems"] if not row["error"]]


def range_of(value: dict[str, float]) -> str:
    return f"{number(value['median'])} ({number(value['least'])} to {number(value['most'])})"


def settings_of(row: Row) -> str:
    return ", ".join(f"{key} {value}" for key, value in row["settings"].items())


def table(case: Row) -> list[str]:
    speed = case["metric"] == "images_per_second"
    figure = WORDS[case["metric"]]
    out = [f"| system | {figure}: median (range) | ratio | first round after, s | memory, MB | settings |",
           "|---|---|---|---|---|---|"]
    for row in case["systems"]:
        if row["error"]:
            out.append(f"| {row['system']} | not measured: {row['error'].replace('|', '/')} | | | | |")
            continue
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        note = "" if row["metric"] == case["metric"] else f" {WORDS[row['metric']]}"
        out.append(f"| {row['system']} {row['version']} | {range_of(row['value'])}{note} | {ratio} | "
                   f"{number(row['first_round_seconds']['median'])} | {number(row['peak_memory_mb']['median'])} | "
                   f"{settings_of(row)} |")
    checks = [f"{row['system']}: {row['checked']}" for row in worked(case) if "checked" in row]
    rounds = f"{case['timed_rounds']} rounds with their evaluations after one to warm up. " if speed else ""
    return [*out, "", rounds + ("Same work, judged by " + "; ".join(checks) + "." if checks else "No peer ran.")]


YARDSTICKS = {"plain_onednn": 1.25}  # programs that are nobody's system, and the ratio that we want to them


def losses_of(case: Row) -> list[str]:
    """Sentences for what we do not win, or not by as much as we want."""
    rivals = [row for row in worked(case) if "ratio" in row]
    short = [row for row in rivals if row["ratio"] < YARDSTICKS.get(row["system"], 0)]
    if short:
        return [f"`{case['case']}`: {row['ratio']:.2f} times better than {row['system']}, where "
                f"{YARDSTICKS[row['system']]:g} is wanted." for row in short]
    rivals = [row for row in rivals if row["system"] not in YARDSTICKS]
    if not rivals:
        return [f"`{case['case']}`: no peer did the same work, so nothing is shown."]
    best = min(rivals, key=lambda row: row["ratio"])
    if best["ratio"] < 1:
        return [f"`{case['case']}`: {best['system']} is ahead of fedlane, by a factor of {1 / best['ratio']:.2f}."]
    if best["ratio"] < case["target"]:
        return [f"`{case['case']}`: {best['ratio']:.2f} times better than {best['system']}, where "
                f"{case['target']:g} is wanted."]
    return []


def ours(cases: list[Row], name: str) -> dict[str, float] | None:
    return next((case["systems"][0]["value"] for case in cases if case["case"] == name), None)


def limits_missed(cases: list[Row]) -> list[str]:
    """What we promise of ourselves alone."""
    out = []
    one, many, million = (ours(cases, name) for name in ("memory-1", "memory-1000", "population-1e6"))
    if one and many and many["median"] > FLAT * one["median"]:
        out.append(f"memory: 1,000 clients a round take {many['median'] / one['median']:.2f} times what one takes, "
                   f"where at most {FLAT} is wanted.")
    if million and million["median"] > SETUP_LIMIT:
        out.append(f"population: 10^6 clients are set up in {million['median']:.1f} s, where {SETUP_LIMIT:g} s are "
                   "wanted.")
    return out


def origin(report: Row) -> str:
    machine = report["machine"]
    gpu = f", {machine['gpu']}" if machine["gpu"] and report["device"] != "cpu" else ""
    return (f"{report['date']}, commit {report['commit']}, {machine['processor']}, {machine['cores']} cores{gpu}, "
            f"{machine['memory_gb']} GB, {machine['system']}, load {machine['load_at_start']} at the start; "
            f"{report['repeats']} turns on {report['device']}: `{' '.join(report['command'])}`")


HEAD = """# Benchmarks

This page is made by `bench/publish` from the files in `bench/results/`; do not edit it. To repeat the figures:

    bench/peers/setup                       # exit status 1 where a peer cannot be installed; the others are there
    cmake --preset release && ninja -C build/release fedlane_program plain_onednn
    bench/compare a1 a2 a3 a5 a8 mlp startup memory population

All systems read the same data, start from the same weights and train the same clients in the same order; they run one after
another, in turns, each in processes of its own. The settings of a peer are the best of several that were tried; its usual ones for
startup, memory and population, and where the command says `--untuned`. What `--set` changes of a workload stands above its table.
A peer's time counts only when it did the same work: parameters, examples, training loss and test accuracy are compared with ours.
Pixels and characters are synthetic. A ratio says how many times better fedlane is; below 1 the peer is ahead."""


def changes(command: list[str]) -> str:
    """What `--set` has changed of the workload that the heading describes."""
    words = [word for key, word in zip(command, command[1:]) if key == "--set"]
    return f" Here with {' '.join(f'`{word}`' for word in words)}." if words else ""


def page(reports: list[Row], plots: dict[str, list[str]]) -> str:
    """reports: one for each case; plots: for each case, the files to show after its table."""
    cases = [report["cases"][0] for report in reports]
    lost = [sentence for case in cases for sentence in losses_of(case)] + limits_missed(cases)
    none = ["Nowhere in these figures: fedlane is first in each table and reaches each wanted ratio."]
    out = [HEAD, "", "## Where we lose, or win by less than we want", "", *([f"- {sentence}" for sentence in lost] or none), "", "## Machines", ""]
    origins = list(dict.fromkeys(map(origin, reports)))
    out += [f"{i + 1}. {words}" for i, words in enumerate(origins)]
    for report, case in zip(reports, cases):
        place = f" Measured as in ({origins.index(origin(report)) + 1})."
        out += ["", f"## {case['case']}", "", case["help"] + "." + changes(report["command"]) + place, "", *table(case)]
        out += [line for file in plots.get(case["case"], []) for line in ("", f"![{case['case']}]({file})")]
    return "\n".join(out) + "\n"
