"""Measure how much faster than real time our models and others encode and decode.

    /tmp/peers/bin/python benchmarks/coding_speed.py                 # about 3 minutes on one core
    /tmp/peers/bin/python benchmarks/coding_speed.py --device cuda

benchmarks/peers.py describes the environment of the others; without it the table has only ours. Evaluation mode,
random weights, float32, medians of interleaved rounds. Writes benchmarks/results/coding_speed_<device>.md.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from _common import REPOSITORY, interleaved, machine, publish, table, versions
from peers import PACKAGES, Codec, Dac, Encodec, Mimi, Ours, available

from discrete_ae.model.summary import multiply_accumulates

REFERENCE = "EnCodec 24 kHz"
COLUMNS = (
    "codec",
    "parameters",
    "GMAC/s encode",
    "GMAC/s decode",
    "encode, × real time",
    "decode, × real time",
    "× EnCodec, encode",
    "× EnCodec, decode",
)
PEERS: dict[str, Callable[[], Codec]] = {REFERENCE: Encodec, "DAC 16 kHz": Dac, "Mimi 24 kHz": Mimi}


def ours() -> dict[str, Callable[[], Codec]]:
    """Return the builder of every option of conf/model, small models first."""
    folder = REPOSITORY / "conf" / "model"
    options = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    sizes = ("tiny", "small", "base", "large")
    options.sort(key=lambda option: (Path(option).parent, sizes.index(Path(option).name)))
    found = {f"`{option}`": [f"model={option}"] for option in options}
    # At EnCodec's sample rate and frame rate.
    found["`spectral/base`, 24 kHz, 75 frames/s"] = ["model=spectral/base", "model.sample_rate=24000"]
    return {name: functools.partial(Ours, overrides) for name, overrides in found.items()}


def giga_macs(codec: Codec) -> tuple[float, float]:
    """Return the GMACs to encode and to decode one second of audio."""
    codes, encode_macs = multiply_accumulates(lambda: codec.encode(torch.zeros(1, 1, codec.sample_rate)))
    _, decode_macs = multiply_accumulates(lambda: codec.decode(codes))
    return encode_macs / 1e9, decode_macs / 1e9


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of a recording")
    parser.add_argument("--batch", type=int, default=1, help="recordings per batch")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)

    codecs = {name: codec.eval() for name, codec in available({**ours(), **PEERS}).items()}
    macs = {name: giga_macs(codec) for name, codec in codecs.items()}
    functions: dict[str, Callable[[], object]] = {}
    with torch.inference_mode():
        for name, codec in codecs.items():
            codec.to(given.device)
            audio = 0.1 * torch.randn(given.batch, 1, round(given.seconds * codec.sample_rate), device=given.device)
            functions[f"{name} encode"] = functools.partial(codec.encode, audio)
            functions[f"{name} decode"] = functools.partial(codec.decode, codec.encode(audio))
        times = interleaved(functions, given.device, given.rounds)
    speeds = {name: given.batch * given.seconds / duration for name, duration in times.items()}

    rows = []
    for name, codec in codecs.items():
        parameters = sum(parameter.numel() for parameter in codec.parameters())
        row = [name, f"{parameters / 1e6:.1f} M", *(f"{count:.2f}" for count in macs[name])]
        found = [speeds[f"{name} {way}"] for way in ("encode", "decode")]
        row += [f"{speed:.1f}" for speed in found]
        if REFERENCE in codecs:
            peer = [speeds[f"{REFERENCE} {way}"] for way in ("encode", "decode")]
            row += [f"{speed / of_peer:.2f}" for speed, of_peer in zip(found, peer, strict=True)]
        rows.append(row)
    lines = [
        "# Speed of encoding and decoding",
        "",
        f"`python benchmarks/coding_speed.py --device {given.device} --threads {given.threads} --seconds "
        f"{given.seconds:g} --batch {given.batch} --rounds {given.rounds}`; {machine(given.device, given.threads)}, "
        f"{versions(*PACKAGES)}.",
        "",
        "Audio to codes and codes to audio, seconds of audio for each second, float32, random weights. Sample rates, "
        "frame rates and bitrates differ: ours have 16 kHz, 50 frames a second and 3.2 kbps unless their names say "
        "otherwise, EnCodec 75 and 6 kbps, DAC 50 and 6 kbps, Mimi 12.5 and 1.1 kbps.",
        "",
        *table(COLUMNS if REFERENCE in codecs else COLUMNS[:-2], rows),
    ]
    publish(lines, f"coding_speed_{given.device}")


if __name__ == "__main__":
    main()
