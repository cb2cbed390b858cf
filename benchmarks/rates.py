"""Compare a trained model, decoded from few and from many of its codebooks, with Opus and Codec 2.

    python benchmarks/rates.py corpus/test/other_voices                           # the included model
    python benchmarks/rates.py corpus/test/other_voices -c CHECKPOINT --name NAME

`corpus` is written by speech_corpus.py; any recordings that the model was not trained on work too. The first form
writes benchmarks/results/speech_16k.md and the tables of README and of the model's card, the second
benchmarks/results/NAME.md. Needs opus-tools, codec2 and 'discrete-ae[quality]'.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _common import REPOSITORY, insert, publish, table, versions
from _scores import heads, plan_of

import discrete_ae
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.baselines import codec2, installed, opus
from discrete_ae.evaluation.evaluate import evaluate_coder, evaluate_model
from discrete_ae.evaluation.recordings import find_sources
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import SCORES
from discrete_ae.paths import PRETRAINED

NAMES = ("pesq", "visqol", "dnsmos_p808", "stoi", "si_sdr_db", "mel_distance")
CODEBOOKS = (2, 4, 8, 16)
OPUS_BPS = (6000, 8000)
PAGES = {"README.md": ("pesq", "visqol", "stoi"), "discrete_ae/pretrained/speech_16k/README.md": NAMES}
"""Pages with the table of the included model, and their scores."""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="a recording, or a folder of them")
    parser.add_argument("-c", "--checkpoint", help="best.ckpt or last.ckpt of a run, or a bundle")
    parser.add_argument("--name", help="name of the result below benchmarks/results")
    given = parser.parse_args()
    if bool(given.checkpoint) != bool(given.name):
        parser.error("-c and --name need each other")
    try:
        measure(given.checkpoint or PRETRAINED, given.recordings, given.name or "speech_16k")
    except (DataError, UsageError) as error:
        sys.exit(str(error))


def measure(checkpoint: str, recordings: Path, name: str) -> None:
    """Write the tables.

    Raises:
        DataError: the checkpoint or a recording cannot be read.
        UsageError: a score's package is not installed.
    """
    if installed([])[1]:
        sys.exit("opusenc, opusdec, c2enc and c2dec are required; run: apt-get install opus-tools codec2")
    model = discrete_ae.load(checkpoint)
    found = find_sources([recordings])
    if found.problems:
        raise found.problems[0]
    plan = plan_of(NAMES)
    rows = []
    for count in [count for count in CODEBOOKS if count in model.quantizer.decodable_counts]:
        books = f"{count} codebook{'s' if count > 1 else ''}"
        rows.append(row(books, evaluate_model(model, found.sources, checkpoint, plan, count)))
        print(*rows[-1].values(), flush=True)
    programs = [*(opus(float(bps)) for bps in OPUS_BPS), codec2("3200")]
    for program in programs:
        rows.append(row(program.name, evaluate_coder(program, found.sources, plan, model.sample_rate, 1)))
        print(*rows[-1].values(), flush=True)
    packages = [package for name in NAMES for package in SCORES[name].packages]
    options = "" if checkpoint == PRETRAINED else f" -c {Path(checkpoint).name} --name {name}"
    publish(
        [
            f"# {name}: quality by rate",
            "",
            f"`python benchmarks/rates.py {'/'.join(recordings.parts[-2:])}{options}`; "
            f"{versions(*packages)}, {programs[0].version()}, {programs[-1].version()}. The model's hash is "
            f"{(model.model_hash or '')[:12]}. Means over {len(found.sources)} recordings, with half of the 95 % "
            "interval of a bootstrap over them. For Opus, the entropy-coded bitrate is that of its packets.",
            "",
            *shown(rows, NAMES),
        ],
        name,
    )
    if checkpoint == PRETRAINED:
        for page, scores in PAGES.items():
            insert(REPOSITORY / page, "quality by rate", ["", *shown(rows, scores)])


def row(label: str, evaluation: Evaluation) -> dict[str, str]:
    """Return a row by column: the codec, both bitrates, and mean scores with half of their 95 % interval."""
    means = evaluation.means()
    cells = {"codec": label}
    for kind in ("nominal", "entropy_coded"):
        bps = evaluation.overall[f"{kind}_bitrate_bps"]
        cells[kind] = "–" if bps is None else f"{bps / 1000:.2f}"
    for name in NAMES:
        mean, low, high = means[name].mean, means[name].low, means[name].high
        cells[name] = f"{mean:.{SCORES[name].digits}f} ± {(high - low) / 2:.{SCORES[name].digits}f}"
    return cells


def shown(rows: list[dict[str, str]], names: Sequence[str]) -> list[str]:
    """Return the lines of the table with some of the scores."""
    keys = ("codec", "nominal", "entropy_coded", *names)
    columns = ("", "nominal kbps", "entropy-coded kbps", *heads(names))
    return table(columns, [[cells[key] for key in keys] for cells in rows])


if __name__ == "__main__":
    main()
