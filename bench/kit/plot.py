"""Small charts as SVG, in a hundred lines: bars, and lines over a logarithmic axis."""
from __future__ import annotations

import math
from html import escape

WIDTH, LEFT, RIGHT, BAR, GAP = 760, 120, 90, 20, 8
COLOURS = ("#1f6feb", "#8b949e", "#d29922", "#a371f7", "#3fb950", "#f85149", "#db61a2", "#39c5cf",
           "#bc8cff", "#e3b341")
Points = list[tuple[float, float]]


def text(x: float, y: float, words: str, anchor: str = "start", colour: str = "#57606a") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def frame(height: float, title: str, parts: list[str]) -> str:
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif" '
            'font-size="13">')
    white = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, white, text(12, 20, title, colour="#1f2328"), *parts, "</svg>"]) + "\n"


def short(value: float) -> str:
    """Such as 4.2k or 0.31."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def decades(least: float, most: float) -> list[float]:
    """Powers of ten that enclose the values."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    return [10.0 ** k for k in range(first, max(last, first + 1) + 1)]


def bars(title: str, rows: list[tuple[str, float]]) -> str:
    """Bars on a logarithmic axis, in the order given; the first one stands out."""
    marks = decades(min(v for _, v in rows), max(v for _, v in rows))
    span = math.log10(marks[-1] / marks[0])

    def at(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(value / marks[0]) / span
    bottom = 36 + len(rows) * (BAR + GAP)
    parts = [f'<line x1="{at(m):.1f}" y1="32" x2="{at(m):.1f}" y2="{bottom}" stroke="#d0d7de"/>'
             + text(at(m), bottom + 16, short(m), "middle") for m in marks]
    for i, (name, value) in enumerate(rows):
        y = 36 + i * (BAR + GAP)
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{max(at(value) - LEFT, 1):.1f}" height="{BAR}" '
                     f'fill="{COLOURS[min(i, 1)]}"/>' + text(LEFT - 8, y + 15, name, "end")
                     + text(at(value) + 6, y + 15, short(value)))
    return frame(bottom + 26, title, parts)


def lines(title: str, across: str, series: dict[str, Points]) -> str:
    """Lines with points, both axes logarithmic."""
    points = [p for s in series.values() for p in s]
    xs = decades(min(x for x, _ in points), max(x for x, _ in points))
    ys = decades(min(y for _, y in points), max(y for _, y in points))
    top, bottom = 40, 320

    def at(x: float, y: float) -> tuple[float, float]:
        return (LEFT + (WIDTH - LEFT - RIGHT - 60) * math.log10(x / xs[0]) / math.log10(xs[-1] / xs[0]),
                bottom - (bottom - top) * math.log10(y / ys[0]) / math.log10(ys[-1] / ys[0]))
    right = at(xs[-1], ys[0])[0]
    parts = []
    for mark in ys:
        y = at(xs[0], mark)[1]
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}" stroke="#d0d7de"/>'
                     + text(LEFT - 8, y + 4, short(mark), "end"))
    parts += [text(at(x, ys[0])[0], bottom + 18, short(x), "middle") for x in xs]
    parts.append(text((LEFT + right) / 2, bottom + 38, across, "middle"))
    for i, (name, own) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        path, wide = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in own), 3 if i == 0 else 1.5
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{wide}"/>')
        parts += ['<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="{}"/>'.format(*at(x, y), colour) for x, y in own]
        parts.append(text(right + 12, top + 18 * i, name, colour=colour))
    return frame(bottom + 50, title, parts)
