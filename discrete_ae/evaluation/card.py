"""An evaluation in a model card: a table for people, an entry of `model-index` for model hubs."""

from pathlib import Path
from typing import Any

from discrete_ae.errors import DataError
from discrete_ae.evaluation.results import TABLE_HEADS, Evaluation
from discrete_ae.evaluation.scores import OVERALL, QUANTITIES
from discrete_ae.saving.bundle import PIPELINE


def results_of(path: Path, model_hash: str) -> Evaluation:
    """Read the results of an evaluation.

    Raises:
        OSError: the file cannot be read.
        DataError: the file is not an evaluation, or its results belong to another model.
    """
    found = Evaluation.read_json(path)
    if found.model_hash != model_hash:
        raise DataError(
            f"{path}: expected results of this model ({model_hash[:12]}), got results of another model "
            f"({str(found.model_hash)[:12]}); evaluate this model"
        )
    return found


def index_entry(evaluation: Evaluation, data: str) -> dict[str, Any]:
    """Return the results as an entry of `model-index`: the mean of every score, and the bitrates.

    Args:
        evaluation: the model's evaluation.
        data: name of the data set.
    """
    values: dict[str, float | None] = {name: interval.mean for name, interval in evaluation.means().items()}
    values |= {one.name: evaluation.overall.get(one.name) for one in OVERALL if one.unit == "bps"}
    return {
        "task": {"type": PIPELINE},
        "dataset": {"name": data, "type": data},
        "metrics": [
            {"type": name, "name": QUANTITIES[name].label, "value": round(value, QUANTITIES[name].digits)}
            for name, value in values.items()
            if value is not None and value == value
        ],
    }


def section(evaluation: Evaluation, data: str) -> str:
    """Return the results as a section of a card, with the table that `discrete-ae evaluate` prints."""
    rows = [TABLE_HEADS, ("---",) * len(TABLE_HEADS), *evaluation.rows()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    count, seconds = len(evaluation.files), sum(file.duration_s for file in evaluation.files)
    return (
        f"## Measured\n\nOn {data}, {count} recordings of {seconds:,.0f} s, decoded from the codes and compared at "
        f"{evaluation.sample_rate} Hz by `discrete-ae evaluate`:\n\n{table}"
    )
