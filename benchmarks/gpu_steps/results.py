"""Results on disk and inputs of the steps of benchmarks/gpu.py."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _common import table

from discrete_ae.writing import write_whole

Row = Mapping[str, Any]


class Results:
    """The files gpu.json and, for people, gpu.md; both are rewritten after every row, so a stopped step loses none.

    Args:
        folder: folder of both files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "gpu.json"

    def read(self) -> dict[str, Any]:
        """Return the results so far: `about` the whole measurement, and `steps` by name."""
        return json.loads(self.path.read_text()) if self.path.exists() else {"about": {}, "steps": {}}

    def about(self, **entries: Any) -> None:
        """Record how the measurement was started."""
        self._write({**self.read(), "about": entries})

    def begin(self, step: str, limit_s: float) -> None:
        """Clear the earlier results of a step, and mark it as cut off until it ends."""
        found = self.read()
        found["steps"][step] = {"status": "cut off", "limit_s": limit_s, "summary": "", "rows": [], "notes": []}
        self._write(found)

    def change(self, step: str, **entries: Any) -> None:
        """Set entries of a step."""
        found = self.read()
        found["steps"][step].update(entries)
        self._write(found)

    def add(self, step: str, key: str, value: Any) -> None:
        """Append to the rows or the notes of a step."""
        found = self.read()
        found["steps"][step][key].append(value)
        self._write(found)

    def _write(self, found: dict[str, Any]) -> None:
        write_whole(self.path, json.dumps(found, indent=1).encode())
        write_whole(self.folder / "gpu.md", markdown(found).encode())


@dataclass(frozen=True)
class Given:
    """Inputs of a step."""

    step: str
    out: Path
    device: str
    """Device, "cuda" or "cpu". On a CPU everything is as small as possible, to test that every line runs."""
    corpus: Path | None
    """Folder of recordings to train on; None for those in data/."""
    train: tuple[str, ...]
    """Overrides of the training run; empty for presets.RUN."""
    deadline: float
    """Time by time.monotonic() at which the step should be done; it is stopped slightly later."""
    results: Results = field(repr=False)

    @property
    def tiny(self) -> bool:
        """True if everything should be as small as possible."""
        return self.device == "cpu"

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def add(self, **row: Any) -> None:
        """Record a row; its keys are the columns."""
        self.results.add(self.step, "rows", row)

    def note(self, text: str) -> None:
        """Record a line of text."""
        self.results.add(self.step, "notes", " ".join(text.split()))

    def summarize(self, text: str) -> None:
        """Set the result shown for this step in the table of all steps."""
        self.results.change(self.step, summary=text)


def markdown(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = ["# What this GPU does", "", *(f"{name}: {value}  " for name, value in found["about"].items()), ""]
    lines += table(("step", "status", "seconds", "result"), verdict(found))
    for name, step in found["steps"].items():
        lines += [f"## {name}", "", *tables(step["rows"])]
        lines += [f"- {note}" for note in step["notes"]] + [""] * bool(step["notes"])
        if last := step.get("last_lines"):
            lines += ["```", *last, "```", ""]
    return "\n".join(lines)


def verdict(found: Mapping[str, Any]) -> list[list[str]]:
    """Return a row per step: its name, status, seconds and result."""
    return [
        [name, step["status"], shown(step.get("seconds", "")), step["summary"]] for name, step in found["steps"].items()
    ]


def tables(rows: Sequence[Row]) -> list[str]:
    """Return the lines of one table per group of consecutive rows with equal columns."""
    lines: list[str] = []
    while rows:
        columns = list(rows[0])
        count = next((i for i, row in enumerate(rows) if list(row) != columns), len(rows))
        lines += table(columns, [[shown(value) for value in row.values()] for row in rows[:count]])
        rows = rows[count:]
    return lines


def shown(value: Any) -> str:
    """Format a value for a table: empty for None, four significant digits for a float."""
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else str(value).replace("|", "/")
