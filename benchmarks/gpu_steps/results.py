"""What the steps of benchmarks/gpu.py share: their results on disk, and what each is given."""

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
    """gpu.json, and gpu.md for people: both are written whole after every row, so that what is cut off loses nothing.

    Args:
        folder: for both.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "gpu.json"

    def read(self) -> dict[str, Any]:
        """What is there: `about` the whole, and `steps` by name."""
        return json.loads(self.path.read_text()) if self.path.exists() else {"about": {}, "steps": {}}

    def about(self, **entries: Any) -> None:
        """Write down how the measuring was started."""
        self._write({**self.read(), "about": entries})

    def begin(self, step: str, limit_s: float) -> None:
        """Forget what an earlier run found of a step."""
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
    """What a step is given."""

    step: str
    out: Path
    device: str
    """cuda or cpu. On a CPU everything is as small as can be: it shows that every line runs, and no speed."""
    corpus: Path | None
    """Recordings to train on; None takes those in data/."""
    train: tuple[str, ...]
    """Overrides of the training run; none takes presets.RUN."""
    deadline: float
    """By time.monotonic(), when the step should be done; it is stopped a little later."""
    results: Results = field(repr=False)

    @property
    def tiny(self) -> bool:
        """Whether everything is to be as small as can be."""
        return self.device == "cpu"

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def add(self, **row: Any) -> None:
        """Write down a row; its keys are the columns."""
        self.results.add(self.step, "rows", row)

    def note(self, text: str) -> None:
        """Write down a line."""
        self.results.add(self.step, "notes", " ".join(text.split()))

    def summarize(self, text: str) -> None:
        """Set what the table of all steps says of this one."""
        self.results.change(self.step, summary=text)


def markdown(found: Mapping[str, Any]) -> str:
    """The results for people."""
    lines = ["# What this GPU does", "", *(f"{name}: {value}  " for name, value in found["about"].items()), ""]
    lines += table(("step", "status", "seconds", "result"), verdict(found))
    for name, step in found["steps"].items():
        lines += [f"## {name}", "", *tables(step["rows"])]
        lines += [f"- {note}" for note in step["notes"]] + [""] * bool(step["notes"])
        if last := step.get("last_lines"):
            lines += ["```", *last, "```", ""]
    return "\n".join(lines)


def verdict(found: Mapping[str, Any]) -> list[list[str]]:
    """A row for each step: its name, what became of it, its time and its result."""
    return [
        [name, step["status"], shown(step.get("seconds", "")), step["summary"]] for name, step in found["steps"].items()
    ]


def tables(rows: Sequence[Row]) -> list[str]:
    """Lines of a table for each stretch of rows with the same columns."""
    lines: list[str] = []
    while rows:
        columns = list(rows[0])
        count = next((i for i, row in enumerate(rows) if list(row) != columns), len(rows))
        lines += table(columns, [[shown(value) for value in row.values()] for row in rows[:count]])
        rows = rows[count:]
    return lines


def shown(value: Any) -> str:
    """A cell of a table; nothing for None, four digits of a float."""
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else str(value).replace("|", "/")
