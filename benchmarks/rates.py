"""A trained model at every rate it has, beside Opus and Codec 2, on recordings that it has not been trained on.

    python benchmarks/rates.py CHECKPOINT corpus/test/other_voices [NAME]

Writes benchmarks/results/NAME.md, speech_16k.md unless told otherwise. Wants opus-tools, codec2 and
'discrete-ae[quality]'; some minutes of one core.
"""

import argparse
from pathlib import Path

from _common import publish, table, versions

import discrete_ae
from discrete_ae.evaluation.baselines import BaselineCodec, evaluate_baseline
from discrete_ae.evaluation.evaluate import Plan, evaluate
from discrete_ae.evaluation.programs import Codec2, Opus, codec2_installed, opus_installed
from discrete_ae.evaluation.quantities import SCORES
from discrete_ae.evaluation.recordings import find_sources
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import choose
from discrete_ae.model.checkpoint import read_training_state

NAMES = ("pesq", "visqol", "dnsmos_p808", "stoi", "si_sdr_db", "mel_distance")
CODEBOOKS = (1, 2, 4, 6, 8, 12, 16)
OPUS_BPS = (6000, 8000, 12000)


def row(label: str, evaluation: Evaluation) -> list[str]:
    """Of the table: mean scores with half of their 95 % interval."""
    means = evaluation.means()
    bps = evaluation.overall["nominal_bitrate_bps"]
    cells = [label, f"{(bps or 0.0) / 1000:.1f}"]
    for name in NAMES:
        mean, low, high = means[name].mean, means[name].low, means[name].high
        cells.append(f"{mean:.{SCORES[name].digits}f} ± {(high - low) / 2:.{SCORES[name].digits}f}")
    return cells


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("name", nargs="?", default="speech_16k")
    given = parser.parse_args()
    model = discrete_ae.load(given.checkpoint)
    steps = read_training_state(given.checkpoint).global_step
    found = find_sources([given.recordings])
    if found.problems:
        raise SystemExit(str(found.problems[0]))
    plan = Plan(choice=choose(NAMES), jobs=1, timing=False)
    rows = []
    for count in [count for count in CODEBOOKS if count in model.quantizer.decodable_counts]:
        books = f"{count} codebook{'s' if count > 1 else ''}"
        rows.append(row(books, evaluate(model, found.sources, str(given.checkpoint), plan, count)))
        print(*rows[-1], flush=True)
    programs = [BaselineCodec(Opus(float(bps)), opus_installed().version) for bps in OPUS_BPS]
    programs.append(BaselineCodec(Codec2("3200"), codec2_installed().version, keeps_waveform=False))
    for program in programs:
        rows.append(row(program.name, evaluate_baseline(program, found.sources, model.sample_rate, plan=plan)))
        print(*rows[-1], flush=True)
    scores = [SCORES[name] for name in NAMES]
    units = [f"{score.label}, {score.unit}" if score.unit else score.label for score in scores]
    labels = [f"{unit} {'↑' if score.higher_is_better else '↓'}" for unit, score in zip(units, scores, strict=True)]
    publish(
        [
            f"# {given.name}",
            "",
            f"`python benchmarks/rates.py {given.checkpoint.name} {given.recordings.name} {given.name}`; {versions()}. "
            f"The model is that of {steps} steps, {model.model_hash}. Means over {len(found.sources)} recordings, with "
            "half of the 95 % interval of a bootstrap over them.",
            "",
            *table(["", "kbps", *labels], rows),
        ],
        given.name,
    )


if __name__ == "__main__":
    main()
