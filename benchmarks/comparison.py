"""Write a part of benchmarks/results/comparison.md, and its CSV files and pictures, from a report of `compare`.

    python train.py -m experiment=compare trainer=cpu trainer.max_steps=2400 data.root=corpus/train \\
        data.validation_root=corpus/validation/other_voices callbacks.clips=null hydra.sweep.dir=logs/comparison
    discrete-ae compare logs/comparison -o report --data corpus/test/other_voices
    python benchmarks/comparison.py quantizers report --runs logs/comparison

`corpus` is written by speech_corpus.py. comparison.md has the commands of the other parts. Replaces the tables between
the comments of comparison.md; the text around them is written by hand. With --runs, `rank_by_length.png` shows the rank
of every method by the mean validation loss of its seeds, at every validation of these runs.
"""

import argparse
import csv
import shutil
import statistics
from collections import defaultdict
from pathlib import Path

from _common import RESULTS, insert, table
from matplotlib.figure import Figure

from discrete_ae.compare.figures import read_curves

PAGE = RESULTS / "comparison.md"
PARTS = ("quantizers", "options", "dropout", "rates")
LOSS = "val/reconstruction"
COLUMNS = {  # heading: column of methods.csv, factor, digits
    "mel distance ↓": ("mel_distance", 1.0, 3),
    "SI-SDR, dB ↑": ("si_sdr_db", 1.0, 2),
    "STOI ↑": ("stoi", 1.0, 3),
    "PESQ ↑": ("pesq", 1.0, 2),
    "codes used": ("usage", 1.0, 3),
    "kbps, entropy-coded": ("entropy_coded_bitrate_bps", 1e-3, 2),
}


def rows(methods: Path) -> list[list[str]]:
    """Return a row per method, the best mel distance first: means and sample standard deviations over seeds."""
    with methods.open() as file:
        found = sorted(csv.DictReader(file), key=lambda row: float(row["mel_distance"]))
    lines = []
    for row in found:
        cells = [f"`{row['method']}`"]
        for name, factor, digits in COLUMNS.values():
            mean, spread = row[name], row[f"{name}_std"]
            if not mean:
                cells.append("–")
                continue
            text = f"{factor * float(mean):.{digits}f}"
            cells.append(f"{text} ± {factor * float(spread):.{digits}f}" if spread else text)
        lines.append(cells)
    return lines


def ranks(runs: Path) -> tuple[list[int], dict[str, list[int]]]:
    """Return the steps at which all runs were validated, and each method's rank there, by its mean loss over seeds."""
    losses: dict[str, list[dict[int, float]]] = defaultdict(list)
    for config in runs.glob("*/config.yaml"):
        curve = read_curves(config.parent)[LOSS]
        label = config.parent.name.rpartition("-seed")[0].rpartition("-")[0]
        losses[label].append(dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True)))
    every = [set(curve) for several in losses.values() for curve in several]
    steps = sorted(set.intersection(*every) - {0})
    found: dict[str, list[int]] = {label: [] for label in losses}
    for step in steps:
        means = {label: statistics.mean(curve[step] for curve in several) for label, several in losses.items()}
        for place, label in enumerate(sorted(means, key=means.__getitem__), 1):
            found[label].append(place)
    return steps, found


def draw(steps: list[int], found: dict[str, list[int]], path: Path) -> None:
    """Draw the ranks over the steps, with the names at the right."""
    figure = Figure(figsize=(10, 0.3 * len(found) + 1.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for label, places in sorted(found.items(), key=lambda item: item[1][-1]):
        (line,) = axes.plot(steps, places, marker="o", linewidth=1.5)
        axes.annotate(
            label, (steps[-1], places[-1]), (8, 0), textcoords="offset points", va="center", color=line.get_color()
        )
    axes.set(xlabel="training step", ylabel="rank by validation loss, 1 is best")
    axes.set(xticks=steps, yticks=range(1, len(found) + 1))
    axes.invert_yaxis()
    axes.margins(x=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def write_ranks(runs: Path, folder: Path) -> None:
    """Draw the ranks at every validation; insert them as a table, beside the ranks on the test recordings."""
    steps, found = ranks(runs)
    draw(steps, found, folder / "rank_by_length.png")
    with (folder / "methods.csv").open() as file:
        tested = [row for row in csv.DictReader(file) if row["seeds"]]  # no other codecs
    by_mel, by_sdr = (
        [row["method"] for row in sorted(tested, key=lambda row: sign * float(row[score]))]
        for score, sign in (("mel_distance", 1), ("si_sdr_db", -1))
    )
    lines = []
    for label, places in sorted(found.items(), key=lambda item: item[1][-1]):
        lines.append([f"`{label}`", *map(str, [*places, by_mel.index(label) + 1, by_sdr.index(label) + 1])])
    heads = ["quantizer", *(f"{step} steps" for step in steps), "test, mel distance", "test, SI-SDR"]
    insert(PAGE, "ranks", ["", *table(heads, lines)])


def main() -> None:
    """Copy a report's CSV files and plots, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="part of the page")
    parser.add_argument("report", type=Path, help="folder that compare wrote")
    parser.add_argument("--runs", type=Path, help="folder of the sweep, to rank its methods at every validation")
    given = parser.parse_args()
    folder = RESULTS / "comparison" / given.part
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*given.report.glob("*.csv"), *given.report.glob("figures/*.png")]:
        shutil.copy(path, folder)
    insert(PAGE, given.part, ["", *table(["quantizer", *COLUMNS], rows(given.report / "methods.csv"))])
    if given.runs:
        write_ranks(given.runs, folder)


if __name__ == "__main__":
    main()
