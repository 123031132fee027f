#!/usr/bin/env python3
"""Writes FOLDER/transactions.csv: card payments of ten banks, made up, 1.6 % of them fraud.

    python3 examples/make_fraud.py [FOLDER]      FOLDER: runs/fraud

Three kinds of fraud with figures chosen by hand: dear goods by night, quick small tests of a stolen number, and orders
from abroad with a new card. A bank meets mostly one kind. The same file every time; no person's data are in it.
"""
import csv
import math
import pathlib
import random
import sys

ROWS, BANKS = 60000, 10
SHOPS = ["grocery", "fuel", "travel", "electronics", "online", "restaurant"]
COLUMNS = ["bank", "amount", "hour", "shop", "abroad", "card_days", "minutes_since_last", "pin", "fraud"]
draw = random.Random(20)


def payment(bank: int) -> list[object]:
    amount, hour, shop = draw.lognormvariate(3.3, 1.1), draw.gauss(14, 4.5) % 24, draw.choice(SHOPS)
    abroad, days, since = int(draw.random() < 0.08), draw.expovariate(1 / 700), draw.lognormvariate(6, 1.8)
    night = max(0.0, 1 - abs((hour + 12) % 24 - 15) / 5)
    kinds = [1.6 * night + 0.9 * math.log(amount / 27) + 1.5 * (shop == "electronics"),
             1.1 * math.log(400 / since) + 0.6 * math.log(27 / amount) + 1.2 * (shop == "online"),
             2.2 * abroad + 2.0 * math.exp(-days / 120) + 1.0 * (shop in ("online", "travel"))]
    odds = sum(math.exp(2.0 * kind + (0 if i == bank % 3 else -2.5) - 9.4) for i, kind in enumerate(kinds))
    pin = "?" if draw.random() < 0.15 else int(draw.random() < 0.6)     # some tills do not tell
    fraud = int(draw.random() < odds / (1 + odds))
    return [f"bank_{bank}", f"{amount:.2f}", f"{hour:.2f}", shop, abroad, int(days), f"{since:.1f}", pin, fraud]


folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/fraud")
folder.mkdir(parents=True, exist_ok=True)
shares = [1 / (1 + i) for i in range(BANKS)]                            # a few large banks, many small ones
with open(folder / "transactions.csv", "w", newline="") as file:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(payment(bank) for bank in draw.choices(range(BANKS), shares, k=ROWS))
