"""Measure how small codes get: the codings of a `.daec` file on recordings that neither model has seen.

    python benchmarks/entropy_coding.py CORPUS/train CORPUS/test NAME=CHECKPOINT...    # some minutes a checkpoint

CORPUS is written by benchmarks/corpus.py, and the checkpoints are of models trained on it. The entropy model is
fitted to 200 seconds of the training folder, as in a training run, and to all of it. The table counts the bytes of the
payloads of all test files; each file has about 260 bytes more. Writes benchmarks/results/entropy_coding.md.
"""

import argparse
from pathlib import Path

import numpy as np
from _common import machine, publish, table, versions

import discrete_ae
from discrete_ae.codec import encode_files
from discrete_ae.codes import CodeFile
from discrete_ae.codes.entropy import PREDICTORS, EntropyModel
from discrete_ae.codes.packing import BITS, RADIX
from discrete_ae.data import find_audio

FIT_SECONDS = (200.0, float("inf"))


def encoded(model: discrete_ae.DiscreteAutoencoder, folder: Path) -> list[CodeFile]:
    """Return the codes of all recordings in a folder."""
    results = encode_files(model, [file.path for file in find_audio(folder).files])
    return [result.code_file for result in results if result.code_file is not None]


def at_random(files: list[CodeFile], most_s: float) -> list[CodeFile]:
    """Draw recordings at random until they last `most_s` seconds in total."""
    found, seconds = [], 0.0
    for i in np.random.default_rng(0).permutation(len(files)):
        if seconds >= most_s:
            break
        found.append(files[i])
        seconds += files[i].duration_s
    return found


def rows_of(name: str, checkpoint: str, train: Path, test: Path) -> list[list[str]]:
    """Return one row per fit of an entropy model to a checkpoint's codes."""
    model = discrete_ae.load(checkpoint)
    sizes = tuple(model.quantizer.codebook_sizes)
    seen, files = encoded(model, train), encoded(model, test)
    shapes = [(len(file.codes), file.codes.shape[2], sizes) for file in files]
    packed = min(sum(packing.num_bytes(*shape) for shape in shapes) for packing in (BITS, RADIX))
    rows = []
    for most_s in FIT_SECONDS:
        fit = at_random(seen, most_s)
        entropy_model = EntropyModel.fit([file.codes for file in fit], sizes)
        order0, context = (
            sum(len(entropy_model.encode(file.codes, predictor)) for file in files) for predictor in PREDICTORS
        )
        rows.append(
            [
                f"{name}: {len(sizes)} codebooks of {max(sizes)}, {model.frame_rate_hz:g} Hz",
                f"{sum(file.duration_s for file in fit):.0f} s",
                *(f"{count:,}" for count in (packed, order0, context)),
                f"{1 - order0 / packed:.1%}",
                f"{1 - context / order0:.1%}",
            ]
        )
    return rows


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("checkpoints", nargs="+", metavar="NAME=CHECKPOINT")
    given = parser.parse_args()
    rows = [row for named in given.checkpoints for row in rows_of(*named.split("=", 1), given.train, given.test)]
    test = find_audio(given.test).files
    names = " ".join(f"{named.partition('=')[0]}=CHECKPOINT" for named in given.checkpoints)
    columns = ("model", "fitted to", "packed", "order0", "context")
    savings = ("order0 saves of packed", "context saves of order0")
    lines = [
        "# Entropy coding of codes",
        "",
        f"`python benchmarks/entropy_coding.py CORPUS/train CORPUS/test {names}`; {machine('cpu', 1)}, "
        f"{versions('numpy', 'constriction')}.",
        "",
        f"Bytes of the payloads of {len(test)} recordings, {sum(file.duration_s for file in test):.0f} s.",
        "",
        *table((*columns, *savings), rows),
    ]
    publish(lines, "entropy_coding")


if __name__ == "__main__":
    main()
