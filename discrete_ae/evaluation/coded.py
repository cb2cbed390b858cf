"""A model's recordings, as pairs of what it made of them and what they were.

Axes: C channels of a recording, n samples.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from discrete_ae.codec import decode_files, encode_files
from discrete_ae.codes import CodeFile
from discrete_ae.codes.daec import smallest_coding
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.data.files import probe
from discrete_ae.data.reading import Prefetched, read_audio, stream_audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import Source, cut, in_utf8, opened, segment_lengths
from discrete_ae.evaluation.results import Failure
from discrete_ae.inference import Runner
from discrete_ae.model import DiscreteAutoencoder

Audio = NDArray[np.float32]

_BLOCKS_AHEAD = 4


class Pair(NamedTuple):
    """A segment of a recording."""

    reconstruction: Audio
    """(C, n)"""
    original: Audio
    """(C, n)"""


@dataclass(eq=False)
class Coded:
    """A recording that is being coded."""

    source: Source
    duration_s: float
    pairs: Iterator[Pair]
    """Its segments in their order; take them before the next recording. DataError where it cannot be read on."""
    bits: float | None = None
    """What its codes take, known when all pairs are taken; None without codes."""
    code_file: CodeFile | None = None


def coded_by_model(
    model: DiscreteAutoencoder,
    sources: Sequence[Source],
    num_codebooks: int | None,
    runner: Runner,
    segment_seconds: float,
) -> Iterator[Coded | Failure]:
    """Yield recordings through hard codes and back at the model's rate, as `codec` codes them.

    Args:
        model: with codes, in [-1, 1] audio; a mono model codes every channel alone.
        sources: the recordings.
        num_codebooks: how many to use, None for all.
        runner: how windows are computed.
        segment_seconds: length of the pairs.
    """
    waiting: deque[tuple[Source, CodeFile]] = deque()
    failures: list[Failure] = []

    def code_files() -> Iterator[CodeFile]:
        results = encode_files(model, (source.path for source in sources), num_codebooks, runner=runner)
        for source, result in zip(sources, results, strict=True):
            if result.code_file is None:
                failures.append(failed(source, result.error))
                continue
            waiting.append((source, result.code_file))
            # As if it had been recorded at the model's rate, at which it is to be compared.
            at_model_rate = {"sample_rate": model.sample_rate, "num_samples": result.code_file.num_model_samples}
            yield result.code_file.model_copy(update=at_model_rate)

    for decoded in decode_files(model, code_files(), runner=runner):
        source, code_file = waiting.popleft()
        try:
            bits = 8 * payload_bytes(code_file, model.entropy_model)
        except DataError as error:
            failures.append(failed(source, error))
            continue
        lengths = segment_lengths(code_file.num_model_samples, model.sample_rate, segment_seconds)
        pairs = _paired(model, source, decoded.blocks, lengths)
        yield Coded(source, code_file.duration_s, pairs, bits, code_file)
    yield from failures


def passed_through(
    model: DiscreteAutoencoder, sources: Sequence[Source], runner: Runner, segment_seconds: float
) -> Iterator[Coded | Failure]:
    """Yield recordings through a model without codes; otherwise as `coded_by_model`.

    Every segment is computed with as much around it as the model listens to, so that it is that of the whole recording.
    """
    for source in sources:
        try:
            file = opened(source.path, model.channels)
        except DataError as error:
            yield failed(source, error)
            continue
        yield Coded(source, file.duration_s, _passed(model, source, runner, segment_seconds))


def failed(source: Source, error: Exception | None) -> Failure:
    """Return what is said of a recording that could not be coded."""
    line = in_utf8(" ".join(str(error).split()))
    named = line if line.startswith(in_utf8(str(source.path))) else f"{in_utf8(str(source.path))}: {line}"
    return Failure(path=source.name, reason=named, sha256=source.sha256)


def payload_bytes(code_file: CodeFile, entropy_model: EntropyModel | None) -> int:
    """Of the codes alone in a `.daec` file: without its header and checksum.

    Raises:
        DataError: more codebooks than such a file may have.
    """
    return len(smallest_coding(code_file, entropy_model)[1])


def _paired(model: DiscreteAutoencoder, source: Source, decoded: Iterator[Audio], lengths: list[int]) -> Iterator[Pair]:
    file = probe(source.path)
    blocks = stream_audio(file, model.sample_rate, model.channels if file.channels == 1 else None)
    with closing(Prefetched(blocks, _BLOCKS_AHEAD)) as originals:
        # The codec's own complaint comes first: it names what is wrong with the model.
        for reconstruction, original in zip(cut(decoded, lengths), cut(originals, lengths), strict=True):
            yield Pair(reconstruction, original)


def _passed(model: DiscreteAutoencoder, source: Source, runner: Runner, segment_seconds: float) -> Iterator[Pair]:
    file = probe(source.path)
    channels = model.channels if file.channels == 1 else None
    rate, hop = model.sample_rate, model.hop_length
    num_samples = -(-file.num_frames * rate // file.sample_rate)
    after = model.look_ahead_samples
    before = model.receptive_field_samples
    start = 0
    for length in segment_lengths(num_samples, rate, segment_seconds):
        first = max(0, start - before) // hop * hop  # the frames stay where they are in the whole
        audio = read_audio(file, rate, channels, first / rate, (start + length + after - first) / rate)
        inside = slice(start - first, start - first + length)
        windows = ((None, stream) for stream in torch.from_numpy(audio).unflatten(0, (-1, model.channels)))
        results = runner.map(model, lambda window: model(window).reconstruction, windows)
        found = np.concatenate([result.cpu().numpy() for _, result in results if result is not None])[:, inside]
        if not np.isfinite(found).all():
            raise DataError(f"{source.path}: the model makes NaN or infinite samples of it; use another checkpoint")
        yield Pair(found, audio[:, inside])
        start += length
