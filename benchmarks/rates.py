"""Compare a trained model, decoded from few and from many of its codebooks, with Opus and Codec 2.

    python benchmarks/rates.py CHECKPOINT corpus/test/other_voices

`corpus` is written by speech_corpus.py; any recordings that the model was not trained on work too. Writes
benchmarks/results/NAME.md. Needs opus-tools, codec2 and 'discrete-ae[quality]'.
"""

import argparse
import sys
from pathlib import Path

from _common import publish, table, versions

import discrete_ae
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.baselines import Codec2, Opus, installed
from discrete_ae.evaluation.evaluate import Plan, evaluate_coder, evaluate_model
from discrete_ae.evaluation.recordings import find_sources
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import SCORES, choose
from discrete_ae.saving.checkpoint import read_training_state

NAMES = ("pesq", "visqol", "dnsmos_p808", "stoi", "si_sdr_db", "mel_distance")
CODEBOOKS = (2, 4, 8, 16)
OPUS_BPS = (6000, 8000)


def row(label: str, evaluation: Evaluation) -> list[str]:
    """Return a row of the table: both bitrates, and mean scores with half of their 95 % interval."""
    means = evaluation.means()
    rates = [evaluation.overall[f"{kind}_bitrate_bps"] for kind in ("nominal", "entropy_coded")]
    cells = [label, *("–" if bps is None else f"{bps / 1000:.2f}" for bps in rates)]
    for name in NAMES:
        mean, low, high = means[name].mean, means[name].low, means[name].high
        cells.append(f"{mean:.{SCORES[name].digits}f} ± {(high - low) / 2:.{SCORES[name].digits}f}")
    return cells


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="best.ckpt or last.ckpt of a run")
    parser.add_argument("recordings", type=Path, help="a recording, or a folder of them")
    parser.add_argument("--name", default="speech_16k", help="name of the result below benchmarks/results")
    parser.add_argument("--about", default="", help="one more sentence about the model, such as its initial weights")
    given = parser.parse_args()
    try:
        measure(given.checkpoint, given.recordings, given.name, given.about)
    except (DataError, UsageError) as error:
        sys.exit(str(error))


def measure(checkpoint: Path, recordings: Path, name: str, about: str) -> None:
    """Write the table.

    Raises:
        DataError: the checkpoint or a recording cannot be read.
        UsageError: a score's package is not installed.
    """
    if installed([])[1]:
        sys.exit("opusenc, opusdec, c2enc and c2dec are required; run: apt-get install opus-tools codec2")
    model = discrete_ae.load(checkpoint)
    steps = read_training_state(checkpoint).global_step
    found = find_sources([recordings])
    if found.problems:
        raise found.problems[0]
    choice = choose(NAMES)
    plan = Plan(choice=choice, jobs=1, timing=False)
    rows = []
    for count in [count for count in CODEBOOKS if count in model.quantizer.decodable_counts]:
        books = f"{count} codebook{'s' if count > 1 else ''}"
        rows.append(row(books, evaluate_model(model, found.sources, str(checkpoint), plan, count)))
        print(*rows[-1], flush=True)
    programs = [*(Opus(float(bps)) for bps in OPUS_BPS), Codec2("3200")]
    for program in programs:
        rows.append(row(program.name, evaluate_coder(program, found.sources, plan, model.sample_rate, 1)))
        print(*rows[-1], flush=True)
    scores = [SCORES[name] for name in NAMES]
    units = [f"{score.label}, {score.unit}" if score.unit else score.label for score in scores]
    packages = [package for score in scores for package in score.packages]
    labels = [f"{unit} {'↑' if score.higher_is_better else '↓'}" for unit, score in zip(units, scores, strict=True)]
    publish(
        [
            f"# {name}: quality by rate",
            "",
            f"`python benchmarks/rates.py {checkpoint.name} {'/'.join(recordings.parts[-2:])} --name {name}`; "
            f"{versions(*packages)}, {programs[0].version()}, {programs[-1].version()}. The model after {steps} steps "
            f"of training, hash {(model.model_hash or '')[:12]}. {f'{about} ' if about else ''}"
            f"Means over {len(found.sources)} recordings, with half of the 95 % interval of a bootstrap over them. "
            "The second rate is that of the entropy-coded codes, for Opus that of its packets.",
            "",
            *table(["", "nominal, kbps", "spent, kbps", *labels], rows),
        ],
        name,
    )


if __name__ == "__main__":
    main()
