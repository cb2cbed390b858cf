"""Measure forward and backward: of roundings relative to `clone`, of quantizers beside their counterparts."""

import torch
from rounding_speed import HARD, Bench, compiled

from gpu_steps.results import Given


def measure(given: Given) -> None:
    """Measure roundings in eager mode, then quantizers, then as many compiled roundings as time allows."""
    bench = Bench((4, 16, 64) if given.tiny else (64, 64, 4096), torch.device(given.device))
    roundings = {name: function.to(given.device) for name, function in HARD.items()}
    ratios = bench.ratios(roundings)
    for name, ratio in ratios.items():
        given.add(**{"rounding": name, "by clone": ratio, "compiled": None})
    summary = f"roundings take {min(ratios.values()):.1f} to {max(ratios.values()):.1f} times as long as clone"
    given.summarize(summary)
    try:
        by_theirs = quantizers(given)
        given.summarize(
            f"{summary}, quantizers {min(by_theirs):.2f} to {max(by_theirs):.2f} times as their counterparts"
        )
    except ImportError as error:
        given.note(f"quantizers are left out: {error}; pip install vector-quantize-pytorch")
    for name in list(roundings)[: 0 if given.tiny else None]:
        if given.left_s < 0:
            given.note(f"no time was left to compile the roundings from {name} on")
            break
        ratio = bench.ratios({name: compiled(roundings[name])})[name]
        given.add(**{"rounding": name, "by clone": None, "compiled": ratio})


def quantizers(given: Given) -> list[float]:
    """Measure every YAML of conf/quantizer, of tiny sizes some; return our time as multiples of the counterparts'.

    Raises:
        ImportError: the package of the counterparts is not installed.
    """
    from quantizer_speed import COUNTERPARTS, QUANTIZERS, measured

    sizes = {"batch": 2, "frames": 16, "rounds": 3} if given.tiny else {}
    ratios = []
    for name in QUANTIZERS[:: 6 if given.tiny else 1]:
        times, kept = measured(name, given.device, **sizes)
        row = {"quantizer": name, "ms": 1000 * times["ours"], "of its counterpart's": None, "counterpart": None}
        if "theirs" in times:
            ratios.append(times["ours"] / times["theirs"])
            row |= {"of its counterpart's": ratios[-1], "counterpart": COUNTERPARTS[name][0]}
        given.add(**row, kept=kept["ours"])
    return ratios
