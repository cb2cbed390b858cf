"""Content of pages for the tests: figures of which the order is known, and clips by whose sound one can tell which
version is heard and at what position.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from discrete_ae.compare.clips import anchors, make_version
from discrete_ae.compare.page import Cell, Clip, Page, Row
from discrete_ae.evaluation.scores import Quantity

RATE = 16000
SLOPE = 500
"""Hz per second by which the sounds rise."""
BASE_HZ = {
    "long": {"original": 500, "ste": 2500, "opus": 4500},
    "short": {"original": 1000, "ste": 3000, "opus": 5000},
}
SECONDS = {"long": 4.0, "short": 0.6}
SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 533 475">
<defs><style type="text/css">*{stroke-linejoin: round}</style><path id="m1" d="M 0 0 L 5 5"/></defs>
<clipPath id="p1"><rect width="533" height="475"/></clipPath>
<g clip-path="url(#p1)"><use xlink:href="#m1" x="3" y="3"/><text x="450" y="20">rate</text></g></svg>"""
COLUMNS = [
    Quantity("mel", "mel distance", "", False, 3, "lower for what sounds alike"),
    Quantity("sdr", "SI-SDR", "dB", True, 2, "higher for what is alike"),
    Quantity("rate", "bitrate", "bps", None, 0, "bits for each second"),
]


def chirp(base_hz: float, seconds: float) -> np.ndarray:
    """Sound whose frequency at t is base_hz + SLOPE t."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (base_hz + SLOPE * time / 2) * time
    return (0.3 * np.sin(phase)).astype(np.float32)[None]


@cache
def clip(name: str) -> Clip:
    sounds = {key: chirp(hz, SECONDS[name]) for key, hz in BASE_HZ[name].items()}
    versions = [make_version(key, key.upper(), sound, RATE, f"note of {key}") for key, sound in sounds.items()]
    return Clip(name, SECONDS[name], tuple(versions), anchors(sounds["original"], RATE))


def row(label: str, *values: float | None, remark: str = "") -> Row:
    cells = {
        column.name: Cell(value, "–" if value is None else f"{value:g}")
        for column, value in zip(COLUMNS, values, strict=True)
    }
    return Row(label, cells, remark)


# Sorted by mel distance. As text 10.5 would come before 9.5.
ROWS = [
    row("bound", 0.1, 20.0, None, remark="upper bound"),
    row("fourier", 0.5, 9.5, 3000.0),
    row("ste", 0.6, 10.5, 900.0),
    row("gumbel", 0.7, -3.0, 10000.0),
    row("Codec 2", 0.8, None, 3200.0, remark="baseline"),
    row("Opus", 0.9, 12.0, 6000.0, remark="baseline"),
]


def page(**changes: object) -> Page:
    """A page with something in every section."""
    content: dict[str, Any] = {
        "title": "Three quantizers",
        "headline": "fourier is better than gumbel.",
        "facts": {"Methods": "3", "Recordings": "2 clips"},
        "method": ["An interval excludes 0.", "Chance remains."],
        "columns": COLUMNS,
        "rows": ROWS,
        "sorted_by": "mel",
        "findings": ["fourier is better than ste."],
        "figures": [
            SimpleNamespace(title="Rate", description="How it falls.", svg=SVG),
            SimpleNamespace(title="Curves", description="How it learns.", svg=SVG),
        ],
        "clips": [clip("long"), clip("short")],
        "notes": ["Two clips are few."],
        "minor": ["rate"],
        "command": "discrete-ae compare runs -o report",
        "version": "0.1.0",
        "pairs": {f"q{i}": [("fourier", "ste", f"−{i} dB", f"−{i}.5 to 0", f"verdict {i}")] for i in range(2)},
    }
    return Page(**(content | changes))
