"""Measure streams of causal models: latency, compute time per frame, and the cost of equal codes.

    python benchmarks/streaming.py                                   # about 10 minutes on one core

Recordings of data/ are pushed frame by frame, as from a microphone; random weights, evaluation mode, one thread.
Times are the thread's processor time, which other load affects little. Writes
benchmarks/results/streaming.md.
"""

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from _common import REPOSITORY, composed, machine, publish, table, versions
from omegaconf import OmegaConf
from torch import Tensor

from discrete_ae import Codec, inference, streaming
from discrete_ae.build import build_model
from discrete_ae.data.reading import read_audio
from discrete_ae.inference import Runner, encoder_window
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.streaming import Decoder, Encoder

MODELS = ("spectral/tiny", "spectral/small", "conv/tiny")
BLOCKS = (1, 4, 8, 16, 32)


def causal(name: str) -> DiscreteAutoencoder:
    """Return a causal model of an option of conf/model, with random weights."""
    torch.manual_seed(0)
    model = composed(f"model={name}", "model.encoder.causal=true").model
    return build_model(OmegaConf.to_container(model, resolve=True)).eval()


def recordings(sample_rate: int, seconds: float) -> Tensor:
    """Return recordings of data/ joined to (1, 1, N)."""
    paths = itertools.cycle(sorted((REPOSITORY / "data").rglob("*.flac")))
    parts, missing = [], round(seconds * sample_rate)
    while missing > 0:
        parts.append(torch.from_numpy(read_audio(next(paths), sample_rate, 1))[None, :, :missing])
        missing -= parts[-1].shape[-1]
    return torch.cat(parts, dim=-1)


def milliseconds(push: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> list[float]:
    """Return the milliseconds of each push, after a few for warm-up."""
    found = []
    for part in parts:
        start = time.process_time()
        push(part)
        found.append(1000 * (time.process_time() - start))
    return found[20:]


def spread(times: Sequence[float], frame_ms: float) -> list[str]:
    """Return the real-time factor, the median and the 95th percentile."""
    return [
        f"{statistics.mean(times) / frame_ms:.3f}",
        f"{statistics.median(times):.2f}",
        f"{statistics.quantiles(times, n=20)[-1]:.2f}",
    ]


def set_block(frames: int) -> None:
    """Set the number of frames in which streams and whole signals are computed."""
    inference.BLOCK = streaming.BLOCK = frames


def stream_rows(seconds: float) -> list[list[str]]:
    """Return a row per model, with the default block."""
    rows = []
    for name in MODELS:
        model = causal(name)
        frame_ms = 1000 / model.frame_rate_hz
        frames = recordings(model.sample_rate, seconds).split(model.hop_length, dim=-1)
        encoder, decoder = Encoder(model), Decoder(model)
        codes = Codec(model).encode(torch.cat(frames, dim=-1)).split(1, dim=-1)
        ahead = model.look_ahead_samples - (model.hop_length - 1)
        latency = frame_ms + 1000 * ahead / model.sample_rate
        encoded, decoded = milliseconds(encoder.push, frames), milliseconds(decoder.push, codes)
        parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        rows.append(
            [f"`{name}`", f"{parameters:.1f} M", f"{latency:g}", *spread(encoded, frame_ms), *spread(decoded, frame_ms)]
        )
    return rows


def block_rows(seconds: float, rounds: int) -> list[list[str]]:
    """Return a row per model and block length: a stream's time per frame, and the speed on whole signals."""
    rows = []
    kept = inference.BLOCK
    for name in MODELS:
        model = causal(name)
        audio = recordings(model.sample_rate, seconds)
        frames = audio[..., : model.hop_length * 160].split(model.hop_length, dim=-1)
        for block in BLOCKS:
            set_block(block)
            taken = statistics.median(milliseconds(Encoder(model).push, frames))
            whole = median_seconds(functools.partial(Codec(model, Runner(jobs=1)).encode, audio), rounds)
            rows.append([f"`{name}`", f"{block}", f"{taken:.2f}", f"{seconds / whole:.0f}"])
        set_block(kept)
        plain = median_seconds(functools.partial(in_windows, model, audio), rounds)
        rows.append([f"`{name}`", "none: whole windows", "", f"{seconds / plain:.0f}"])
    return rows


def median_seconds(function: Callable[[], object], rounds: int) -> float:
    """Return the median processor seconds of a call, after one for warm-up."""
    function()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return statistics.median(found)


def in_windows(model: DiscreteAutoencoder, audio: Tensor) -> Tensor:
    """Return codes computed as for a non-causal model: each window at once, without the repeated parts."""
    size = encoder_window(model).step * model.hop_length
    return torch.cat([model.encode(part) for part in audio.split(size, dim=-1)], dim=-1)


def difference_rows(seconds: float) -> list[list[str]]:
    """Return a row per model: codes of streams that differ from those of the whole, in blocks and frame by frame."""
    rows = []
    for name in MODELS:
        model = causal(name)
        audio = recordings(model.sample_rate, seconds)
        whole = Codec(model).encode(audio)
        streamed = Encoder(model).push(audio)
        state, by_frame = None, []
        with torch.no_grad():
            for frame in audio.split(model.hop_length, dim=-1):
                latents, state = model.latents_step(frame, state)
                by_frame.append(model.quantizer.encode(latents))
        differing = [int((found != whole).sum()) for found in (streamed, torch.cat(by_frame, dim=-1))]
        rows.append([f"`{name}`", str(whole.numel()), *map(str, differing)])
    return rows


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of the audio")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--compared-seconds", type=float, default=60.0, help="duration of the audio whose codes are compared"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    command = (
        f"`python benchmarks/streaming.py --seconds {given.seconds:g} --rounds {given.rounds} "
        f"--compared-seconds {given.compared_seconds:g}`"
    )
    lines = [
        "# Streams of causal models",
        "",
        f"{command}; {machine('cpu', 1)}, {versions()}.",
        "",
        f"16 kHz, frames of 20 ms, 3.2 kbps, one frame a push, blocks of {inference.BLOCK} frames. Latency is that of "
        "the algorithm, in ms: a frame and the look-ahead beyond it; compute time comes on top. The real-time factor "
        "is compute time by duration, below 1 for a stream that keeps up; p50 and p95 are compute times of a frame in "
        "ms, of the processor's own time.",
        "",
        *table(
            (
                "model",
                "parameters",
                "latency",
                "encoder: real-time factor",
                "p50",
                "p95",
                "decoder: real-time factor",
                "p50",
                "p95",
            ),
            stream_rows(given.seconds),
        ),
        "## What equal codes cost",
        "",
        "An encoder computes the frames of its block again with each frame that comes, and whole signals are computed "
        "in the same blocks, so that the codes are the same to the last bit. The longer the block, the slower the "
        "stream and the faster the whole signal; `none` is what whole signals would take without equal codes.",
        "",
        *table(
            ("model", "frames of a block", "stream, ms per frame (p50)", "whole signal, × real time"),
            block_rows(given.seconds, given.rounds),
        ),
        "## Codes that differ from those of the whole signal",
        "",
        "In blocks, as streams are, and frame by frame, which changes the last bits of the latents.",
        "",
        *table(("model", "codes", "in blocks", "frame by frame"), difference_rows(given.compared_seconds)),
    ]
    publish(lines, "streaming")


if __name__ == "__main__":
    main()
