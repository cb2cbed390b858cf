"""Compare our training step with the same step of DAC and EnCodec in their authors' code: audio per second, memory.

    /tmp/peers/bin/python benchmarks/training_speed.py               # about 10 minutes on 2 cores
    /tmp/peers/bin/python benchmarks/training_speed.py --bf16
    /tmp/peers/bin/python benchmarks/training_speed.py --device cuda --batch 16 --bf16 --compile

benchmarks/peers.py describes the environment of the others. A step is forward, the codec's own quantizer, the
multi-scale mel loss of DAC, backward and AdamW, on the same batch. Each measurement is a process of its own, since
peak memory is per process; ours and theirs alternate. Both keep freed memory, as our training does. Writes
benchmarks/results/training_speed_<device>.md, with the options in its name.
"""

import argparse
import ctypes
import functools
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _common import finish, machine, publish, seconds, table, versions
from peers import MEL_WEIGHT, PACKAGES, Codec, Dac, Encodec, MissingPeerError, Ours
from torch import Tensor

from discrete_ae.model.summary import multiply_accumulates
from discrete_ae.training.run import keep_freed_memory

PAIRS: dict[str, dict[str, Callable[[], Codec]]] = {
    "DAC 16 kHz": {
        "`experiment=dac_like`": functools.partial(Ours, ["experiment=dac_like"]),
        "descript-audio-codec": Dac,
    },
    "EnCodec 24 kHz": {
        "`experiment=encodec_like`": functools.partial(Ours, ["experiment=encodec_like"]),
        "encodec": Encodec,
    },
}
COLUMNS = (
    "codec",
    "parameters",
    "GMAC/s forward",
    "step in s",
    "mel loss alone",
    "audio s/s",
    "peak memory in MiB",
    "audio s/s, ours by theirs",
    "memory, ours by theirs",
)
STATE_BYTES = 12  # per parameter: gradient and two moments
MISSING = 3  # exit status of a measurement whose peer is not installed


class Step:
    """One optimizer step of a codec, the same batch each time."""

    def __init__(self, codec: Codec, audio: Tensor, bf16: bool) -> None:
        self.codec = codec.train()
        self.audio = audio
        self.bf16 = bf16
        self.loss = codec.make_loss()
        self.optimizer = torch.optim.AdamW(codec.parameters(), lr=1e-4, betas=(0.8, 0.99), fused=True)

    def __call__(self) -> None:
        """Run forward, loss, backward and AdamW."""
        with torch.autocast(self.audio.device.type, torch.bfloat16, enabled=self.bf16):
            reconstruction, auxiliary = self.codec(self.audio)
        loss = MEL_WEIGHT * self.distance(reconstruction) + auxiliary
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def distance(self, reconstruction: Tensor) -> Tensor:
        """Return the mel loss in float32; DAC's reconstruction is shorter than its input."""
        return self.loss(reconstruction.float(), self.audio[..., : reconstruction.shape[-1]])

    def loss_alone(self) -> None:
        """Run forward and backward of the mel loss."""
        self.distance((0.5 * self.audio).requires_grad_()).backward()


def measure(codec: Codec, given: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of a step and of its loss, and peak memory in bytes above the built model."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    found = {"parameters": sum(parameter.numel() for parameter in codec.parameters())}
    codec.to(given.device)
    if given.compile:
        codec.compile()
    audio = 0.1 * torch.randn(given.batch, 1, round(given.seconds * codec.sample_rate), device=given.device)
    step = Step(codec, audio, given.bf16)
    if not given.compile:  # otherwise this length would be compiled too
        step.audio = audio[:1, :, : codec.sample_rate // 8]  # imports, gradients and the optimizer's state
        step()
        step.audio = audio
        ctypes.CDLL(None).malloc_trim(0)  # freed memory must not count for either side
    finish(given.device)
    before = _memory(given.device)
    for _ in range(given.warmup):
        step()
    found["step_s"] = statistics.median(seconds(step, given.device) for _ in range(given.steps))
    found["peak_bytes"] = _peak(given.device) - before
    if not given.compile:
        found["peak_bytes"] += STATE_BYTES * found["parameters"]
    step.loss_alone()
    found["loss_s"] = statistics.median(seconds(step.loss_alone, given.device) for _ in range(given.steps))
    return found


def count(codec: Codec) -> float:
    """Return the multiply-accumulates of the forward for one second of audio, including the quantizer."""
    audio = torch.zeros(1, 1, codec.sample_rate)
    codes, encode_macs = multiply_accumulates(lambda: codec.eval().encode(audio))
    return encode_macs + multiply_accumulates(lambda: codec.decode(codes))[1]


def _memory(device: str) -> int:
    """Return the bytes held by tensors on a GPU, otherwise by the process, and reset the peak."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak
    return _status_bytes("VmRSS")


def _peak(device: str) -> int:
    # Not getrusage: a process inherits the peak of its parent.
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])


def in_process(pair: str, name: str, arguments: Sequence[str]) -> dict[str, float] | None:
    """Measure in a new process; return None if the peer is not installed."""
    command = [sys.executable, __file__, *arguments, "--measure", json.dumps([pair, name])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == MISSING:
        print(f"{name} is left out: {done.stdout.strip()}", flush=True)
        return None
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def medians(pair: str, given: argparse.Namespace, arguments: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the median figures of the installed codecs of a pair, measured in turn in each round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in PAIRS[pair]}
    for _ in range(given.rounds):
        for name in list(found):
            figures = in_process(pair, name, arguments)
            if figures is None:
                del found[name]
                continue
            found[name].append(figures)
            print(f"{pair}, {name}: {figures['step_s']:.3f} s, {figures['peak_bytes'] / 2**20:.0f} MiB", flush=True)
    return {
        name: {key: statistics.median(figures[key] for figures in several) for key in several[0]}
        for name, several in found.items()
    }


def rows(pair: str, figures: dict[str, dict[str, float]], given: argparse.Namespace) -> list[list[str]]:
    """Return the rows of our codec and theirs."""
    ours, theirs = (figures.get(name) for name in PAIRS[pair])
    found = []
    for name, values in figures.items():
        row = [
            name,
            f"{values['parameters'] / 1e6:.1f} M",
            f"{count(PAIRS[pair][name]()) / 1e9:.1f}",
            f"{values['step_s']:.3f}",
            f"{values['loss_s']:.3f}",
            f"{given.batch * given.seconds / values['step_s']:.2f}",
            "" if given.compile and given.device == "cpu" else f"{values['peak_bytes'] / 2**20:.0f}",
        ]
        if values is ours and theirs is not None:
            row.append(f"{theirs['step_s'] / ours['step_s']:.2f}")
            row.append(f"{ours['peak_bytes'] / theirs['peak_bytes']:.2f}" if row[-2] else "")
        found.append(row + [""] * (len(COLUMNS) - len(row)))
    return found


def main() -> None:
    """Measure and write the table; with --measure, measure one codec."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2, help="number of CPU threads")
    parser.add_argument("--batch", type=int, default=2, help="crops per batch")
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of a crop")
    parser.add_argument("--warmup", type=int, default=2, help="warm-up steps")
    parser.add_argument("--steps", type=int, default=5, help="measured steps per process")
    parser.add_argument("--rounds", type=int, default=3, help="processes per codec")
    parser.add_argument("--bf16", action="store_true", help="autocast both sides to bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile both sides")
    parser.add_argument("--pair", choices=tuple(PAIRS), action="append", help="only this one (may be repeated)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        pair, name = json.loads(given.measure)
        try:
            print(json.dumps(measure(PAIRS[pair][name](), given)))
        except MissingPeerError as error:
            print(error)
            sys.exit(MISSING)
        return

    # torch sizes its thread pool at start, so the processes get the number of threads from the environment.
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    lines = [
        "# A training step beside DAC and EnCodec",
        "",
        f"`python benchmarks/training_speed.py {shlex.join(sys.argv[1:])}`: "
        f"{given.batch} crops of {given.seconds:g} s; "
        f"{machine(given.device, given.threads)}{', bf16 autocast' if given.bf16 else ', float32'}"
        f"{', compiled' if given.compile else ''}, {versions(*PACKAGES)}.",
        "",
        "Forward, the codec's own quantizer, DAC's multi-scale mel loss, backward, AdamW. DAC has its own code for the "
        "loss; the encodec package has none and gets ours. Memory is the peak of a step above what a step of an eighth "
        f"of a second leaves, plus gradients and the optimizer's state. Medians of {given.rounds} processes of "
        f"{given.steps} steps, ours and theirs in turn. The ratio of speed is better above 1, that of memory below 1. "
        "Both sides keep freed memory (keep_freed_memory in discrete_ae/training/run.py).",
        "",
    ]
    for pair in given.pair or PAIRS:
        lines += [f"## {pair}", "", *table(COLUMNS, rows(pair, medians(pair, given, sys.argv[1:]), given))]
    names = {"bf16": given.bf16, "compiled": given.compile}
    options = "".join(f"_{name}" for name, chosen in names.items() if chosen)
    publish(lines, f"training_speed_{given.device}{options}")


if __name__ == "__main__":
    main()
