"""Mean scores of codecs as columns of a table."""

from collections.abc import Sequence

from discrete_ae.evaluation.evaluate import Plan
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import SCORES, choose


def plan_of(names: Sequence[str]) -> Plan:
    """Return the plan of an evaluation with these scores, in one process."""
    return Plan(choice=choose(names), jobs=1, timing=False)


def heads(names: Sequence[str]) -> list[str]:
    """Return the heads of the scores' columns: label, unit, and an arrow towards better."""
    units = {name: "" if SCORES[name].unit in ("", "MOS") else f", {SCORES[name].unit}" for name in names}
    return [f"{SCORES[name].label}{units[name]} {'↑' if SCORES[name].higher_is_better else '↓'}" for name in names]


def mean_cells(evaluation: Evaluation, names: Sequence[str]) -> list[str]:
    """Return the mean scores, "–" for a score that no recording has."""
    means = evaluation.means()
    return [f"{means[name].mean:.{SCORES[name].digits}f}" if name in means else "–" for name in names]
