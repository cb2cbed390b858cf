"""How small codes get and how fast: the codings of a `.daec` file on codes of a synthetic source.

    python benchmarks/entropy_coding.py                              # about half a minute on one core

The source is a Markov chain of 8 codebooks of 256 at 50 frames per second: a code repeats that of the frame before in
3 of 10 frames, and otherwise lies a little above 3 times that of the codebook before. The model is fitted on 10
minutes, the files are of other seeds. Writes benchmarks/results/entropy_coding.md.
"""

import argparse
import time
import tracemalloc
import zlib

import numpy as np
import numpy.typing as npt
from _common import machine, publish, table, versions

from discrete_ae.codes.entropy import BITS, PREDICTORS, RADIX, EntropyModel

SIZES = (256,) * 8
FRAME_RATE_HZ = 50
Codes = npt.NDArray[np.uint8]


def source(streams: int, frames: int, seed: int) -> Codes:
    """(S, K, T)"""
    random = np.random.default_rng(seed)
    codes = np.zeros((streams, len(SIZES), frames), np.uint8)
    repeats = random.random(codes.shape) < 0.3
    ahead = random.geometric(0.05, codes.shape).astype(np.uint8)
    for t in range(1, frames):
        for k in range(len(SIZES)):
            below = 3 * codes[:, k - 1, t] if k else np.zeros(streams, np.uint8)
            codes[:, k, t] = np.where(repeats[:, k, t], codes[:, k, t - 1], below + ahead[:, k, t])
    return codes


def sizes_row(name: str, codes: Codes, model: EntropyModel) -> list[str]:
    """Bytes of the codings side by side."""
    streams, _, frames = codes.shape
    found = [packing.num_bytes(streams, frames, SIZES) for packing in (BITS, RADIX)]
    found += [len(model.encode(codes, predictor)) for predictor in PREDICTORS]
    found.append(len(zlib.compress(codes.tobytes(), 9)))
    return [name, *(f"{size:,}" for size in found), f"{1 - found[3] / found[0]:.1%}"]


def speed_rows(codes: Codes, model: EntropyModel) -> list[list[str]]:
    """Seconds and bytes against the cross entropy, for each way."""
    streams, _, frames = codes.shape
    rows = []
    for predictor in PREDICTORS:
        start = time.perf_counter()
        payload = model.encode(codes, predictor)
        encoded = time.perf_counter()
        decoded = model.decode(payload, streams, frames, predictor)
        seconds = (encoded - start, time.perf_counter() - encoded)
        assert np.array_equal(decoded, codes)
        ideal = model.cross_entropy_bits(codes, predictor) / 8
        rows.append(
            [predictor, f"{len(payload):,}", f"{len(payload) / ideal - 1:+.4%}", *(f"{took:.2f}" for took in seconds)]
        )
    for name, packing in (("packed", BITS), ("radix", RADIX)):
        start = time.perf_counter()
        payload = packing.pack(codes, SIZES)
        encoded = time.perf_counter()
        assert np.array_equal(packing.unpack(payload, streams, frames, SIZES), codes)
        seconds = (encoded - start, time.perf_counter() - encoded)
        rows.append([name, f"{len(payload):,}", "", *(f"{took:.2f}" for took in seconds)])
    return rows


def peak_bytes(codes: Codes, model: EntropyModel) -> tuple[int, int]:
    """Most memory of numpy's while encoding with context, and decoding."""
    tracemalloc.start()
    payload = model.encode(codes, "context")
    encoding = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    model.decode(payload, codes.shape[0], codes.shape[2], "context")
    decoding = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return encoding, decoding


def main() -> None:
    """Measure and write the tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    fit = [source(1, 60 * FRAME_RATE_HZ, seed) for seed in range(10)]
    start = time.perf_counter()
    model = EntropyModel.fit(fit, SIZES)
    fitted = time.perf_counter() - start
    kept = sum(array.nbytes for array in model.to_arrays().values())
    long = source(2, 3 * 3600 * FRAME_RATE_HZ, 100)
    speeds = speed_rows(long, model)
    peaks = peak_bytes(long, model)
    lengths = {"1 s, mono": (1, 1), "10 s, mono": (1, 10), "10 min, stereo": (2, 600)}
    rows = [
        sizes_row(name, source(streams, duration * FRAME_RATE_HZ, 200), model)
        for name, (streams, duration) in lengths.items()
    ]
    rows.append(sizes_row("3 h, stereo", long, model))
    lines = [
        "# Entropy coding of codes",
        "",
        f"`python benchmarks/entropy_coding.py`; {machine('cpu', 1)}, {versions('numpy', 'constriction')}.",
        "",
        "Codes of a synthetic Markov source, 8 codebooks of 256 at 50 frames per second. "
        f"Fitting the model on 10 minutes took {fitted:.2f} s; its arrays are {kept / 1e6:.1f} MB.",
        "",
        "## Bytes of the payload",
        "",
        *table(("file", "packed", "radix", *PREDICTORS, "deflate", "saved by context"), rows),
        "## A stereo file of 3 hours",
        "",
        *table(("coding", "bytes", "beyond the cross entropy", "encode, s", "decode, s"), speeds),
        f"Most memory that numpy held with context, beside the {long.nbytes / 1e6:.1f} MB of codes: "
        f"{peaks[0] / 1e6:.0f} MB to encode, {peaks[1] / 1e6:.0f} MB to decode.",
        "",
    ]
    publish(lines, "entropy_coding")


if __name__ == "__main__":
    main()
