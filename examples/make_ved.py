#!/usr/bin/env python3
"""Writes FOLDER/VED_made_N_week.csv: three weeks of 60 vehicles in the layout of the Vehicle Energy Dataset, made up.

    python3 examples/make_ved.py [FOLDER]      FOLDER: runs/ved

A third burn fuel, a third are hybrids, a third have batteries alone. Their weight, drag and efficiency differ; roads ask for
a speed, traffic stops them, and energy follows from inertia, drag, rolling and the air conditioning. The same files every
time; nobody's trips are in it.
"""
import csv
import pathlib
import random
import sys

VEHICLES, WEEKS, STEP = 60, 3, 2  # STEP: seconds between rows
COLUMNS = ["DayNum", "VehId", "Trip", "Timestamp(ms)", "Latitude[deg]", "Longitude[deg]", "Vehicle Speed[km/h]", "MAF[g/sec]",
           "Engine RPM[RPM]", "Absolute Load[%]", "OAT[DegC]", "Fuel Rate[L/hr]", "Air Conditioning Power[kW]",
           "Air Conditioning Power[Watts]", "Heater Power[Watts]", "HV Battery Current[A]", "HV Battery SOC[%]",
           "HV Battery Voltage[V]", "Short Term Fuel Trim Bank 1[%]", "Short Term Fuel Trim Bank 2[%]",
           "Long Term Fuel Trim Bank 1[%]", "Long Term Fuel Trim Bank 2[%]"]
draw = random.Random(22)


def speeds(minutes: float, limit: float) -> list[float]:
    """Metres a second, towards what the road allows, with stops."""
    v, goal, out = 0.0, limit, []
    for _ in range(int(minutes * 60 / STEP)):
        if draw.random() < STEP / 40:
            goal = draw.choice([0.0, 0.5, 0.8, 1.0, 1.1]) * limit
        v = max(0.0, v + max(-2.5, min(1.8, (goal - v) / 3)) * STEP)
        out.append(v)
    return out


def trip(kind: int, car: dict[str, float], warmth: float) -> list[list[object]]:
    """Rows from the timestamp on, but for the place."""
    before, charge, rows = 0.0, 90.0, []
    comfort = 55 * max(0.0, warmth - 20) if warmth > 20 else 0.0
    heat = 90 * max(0.0, 12 - warmth)
    for i, v in enumerate(speeds(draw.lognormvariate(2.3, 0.5), draw.choice([11, 14, 18, 25, 30]))):
        force = car["mass"] * ((v - before) / STEP + 9.81 * 0.011) * (v > 0) + 0.6 * car["drag"] * v * v
        watts, before = force * v, v
        electric = watts / 0.85 if watts > 0 else watts * 0.6
        current, air = "NaN", "NaN"
        if kind:  # one with a battery: below 0 leaves it
            part = 1.0 if kind == 2 else 0.4
            volts = 360 - 0.02 * part * electric / 360
            current = f"{-(part * electric + (comfort + heat) * (kind == 2)) / volts:.2f}"
            charge -= part * electric * STEP / 6e5
        if kind < 2:  # one that burns fuel: air for it, at 14.7 to 1 and 34 MJ a litre of 750 g
            burnt = max(0.0, (1.0 if kind == 0 else 0.6) * max(watts, 0.0) / car["engine"] + 900 + comfort / 0.3)
            air = f"{burnt / 34e6 * 750 * 14.7:.3f}"
        rows.append([1000 * STEP * i, f"{3.6 * v:.1f}", air, "NaN", "NaN", f"{warmth:.1f}", "NaN", "NaN", f"{comfort:.0f}",
                     f"{heat:.0f}" if kind == 2 else "NaN", current, f"{charge:.1f}" if kind else "NaN",
                     "360" if kind else "NaN", *(["NaN"] * 4)])
    return rows


folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/ved")
folder.mkdir(parents=True, exist_ok=True)
cars = [{"mass": draw.uniform(1200, 2200), "drag": draw.uniform(0.55, 0.95), "engine": draw.uniform(0.2, 0.3)}
        for _ in range(VEHICLES)]
for week in range(WEEKS):
    with open(folder / f"VED_made_{week + 1}_week.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for number, car in enumerate(cars):
            for k in range(draw.randint(5, 15)):
                day, warmth = 7 * week + draw.uniform(0, 7), draw.gauss(14, 11)
                table.writerows([f"{day:.3f}", number + 1, 100 * week + k, row[0], "42.28", "-83.74", *row[1:]]
                                for row in trip(number % 3, car, warmth))
