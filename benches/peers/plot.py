"""Recall against queries a second as SVG, a line per engine, without any package."""

import math
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 540, 80, 170, 40, 50
COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#7f7f7f"]
LOWEST_RECALL = 0.8


def svg(title, k, curves):
    shown = {name: [row for row in rows if row["recall"] >= LOWEST_RECALL] for name, rows in curves.items()}
    speeds = [row["qps"] for rows in shown.values() for row in rows] or [1]
    low, high = math.log10(min(speeds) / 1.2), math.log10(max(speeds) * 1.2)
    x = lambda recall: LEFT + (recall - LOWEST_RECALL) / (1 - LOWEST_RECALL) * (WIDTH - LEFT - RIGHT)  # noqa: E731
    y = lambda qps: HEIGHT - BOTTOM - (math.log10(qps) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)  # noqa: E731
    text = lambda at_x, at_y, what, more="": f'<text x="{at_x:.1f}" y="{at_y:.1f}" {more}>{escape(what)}</text>'  # noqa: E731
    line = lambda x1, y1, x2, y2: f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#ddd"/>'  # noqa: E731
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="none">']
    parts += ['<rect width="100%" height="100%" fill="white"/>', '<g fill="#222">', text(LEFT, 24, title, 'font-size="14"')]
    for step in range(5):
        recall = LOWEST_RECALL + step * (1 - LOWEST_RECALL) / 4
        parts += [line(x(recall), TOP, x(recall), HEIGHT - BOTTOM), text(x(recall), HEIGHT - BOTTOM + 18, f"{recall:.2f}", 'text-anchor="middle"')]
    for power in range(math.floor(low), math.ceil(high) + 1):
        for digit in (1, 2, 5):
            qps = digit * 10**power
            if low <= math.log10(qps) <= high:
                parts += [line(LEFT, y(qps), WIDTH - RIGHT, y(qps)), text(LEFT - 8, y(qps) + 4, f"{qps:,.0f}", 'text-anchor="end"')]
    parts += [text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, f"recall@{k}", 'text-anchor="middle"'), text(8, TOP - 6, "queries per second"), "</g>"]
    for at, (name, rows) in enumerate(shown.items()):
        color = COLORS[at % len(COLORS)]
        points = " ".join(f"{x(row['recall']):.1f},{y(row['qps']):.1f}" for row in rows)
        parts += [f'<polyline points="{points}" stroke="{color}" stroke-width="2"/>']
        parts += [f'<circle cx="{x(row["recall"]):.1f}" cy="{y(row["qps"]):.1f}" r="3" fill="{color}"/>' for row in rows]
        parts += [text(WIDTH - RIGHT + 14, TOP + 18 * at + 10, name, f'fill="{color}"')]
    return "\n".join([*parts, "</svg>\n"])
