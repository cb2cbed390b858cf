"""Measure time and memory of rounding, forward and backward, relative to x.clone() on the same tensor.

    python benchmarks/rounding_speed.py          # about 5 minutes on 2 cores; uses a GPU if available

Medians of interleaved runs, as ratios to x.clone() forward + backward measured in between, so that other load affects
all alike. Writes benchmarks/results/rounding_speed_<device>.md.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial

import torch
from _common import example_name, interleaved, machine, publish, table, versions
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from discrete_ae.rounding import EXAMPLES, Fourier, Rounding

SHAPES = ((16, 64, 1000), (16, 64, 4000))
RUNS = 41

Step = Callable[[Tensor], Tensor]


def naive_fourier(terms: int) -> Step:
    """Return the Fourier sum as in the formula, differentiated by autograd."""

    def forward(x: Tensor) -> Tensor:
        return x + sum((-1) ** n * torch.sin(2 * math.pi * n * x) / n for n in range(1, terms + 1)) / math.pi

    return forward


def family(hard: bool) -> dict[str, Rounding]:
    """Return every example by name, and Fourier series with more terms."""
    long = [(Fourier, {"terms": n, "weights": w}) for w in ("dirichlet", "fejer", "lanczos") for n in (20, 100)]
    return {example_name(cls, arguments): cls(**arguments, hard=hard) for cls, arguments in (*EXAMPLES, *long)}


HARD = family(hard=True)
SOFT = {name: rounding for name, rounding in family(hard=False).items() if isinstance(rounding, Fourier)}
OTHERS = {name: rounding for name, rounding in family(hard=False).items() if name not in SOFT}


class Bench:
    """Forward and backward of elementwise functions on one tensor.

    Args:
        shape: shape of the tensor.
        device: device of the tensor.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = (2 * torch.randn(shape, generator=generator)).to(device).requires_grad_()
        self.upstream = torch.randn(shape, generator=generator).to(device)

    def step(self, function: Step) -> None:
        """Run one forward and backward."""
        self.x.grad = None
        function(self.x).backward(self.upstream)

    def ratios(self, functions: dict[str, Step]) -> dict[str, float]:
        """Return the median time of each function divided by that of x.clone(), interleaved."""
        steps = {name: partial(self.step, function) for name, function in {"clone": torch.clone, **functions}.items()}
        for step in steps.values():  # two warm-up calls, with the one in `interleaved`
            step()
        medians = interleaved(steps, self.x.device.type, RUNS)
        return {name: medians[name] / medians["clone"] for name in functions}

    def peak(self, function: Step) -> float:
        """Return the peak memory of a forward and backward, as a multiple of the tensor's size."""
        self.step(function)
        self.x.grad = None
        if self.x.is_cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.step(function)
            return (torch.cuda.max_memory_allocated() - before) / self.x.nbytes
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            self.step(function)
        events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
        allocated = most = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            allocated += event.nbytes()
            most = max(most, allocated)
        return most / self.x.nbytes

    def saved(self, function: Step) -> int:
        """Return the number of tensors with more than one element that are saved for the backward pass."""
        kept: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            function(self.x)
        return sum(size > 1 for size in kept)


def compiled(function: nn.Module) -> Step:
    """Compile a function after a reset of the compiler, so that each is measured as if it were alone."""
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True)


def roundings(bench: Bench, functions: dict[str, Rounding], extra: dict[str, Step] | None = None) -> list[list[str]]:
    """Return a row per function: compiled and eager time and memory, and saved tensors."""
    eager = bench.ratios({**functions, **(extra or {})})
    rows = []
    for name, function in functions.items():
        fast = compiled(function)
        ratio = bench.ratios({name: fast})[name]
        row = [name, f"{ratio:.2f}", f"{bench.peak(fast):.1f}", f"{eager[name]:.1f}", f"{bench.peak(function):.1f}"]
        rows.append([*row, str(bench.saved(function))])
    for name, step in (extra or {}).items():
        rows.append([name, "", "", f"{eager[name]:.1f}", f"{bench.peak(step):.1f}", str(bench.saved(step))])
    return rows


def errors(device: torch.device) -> list[list[str]]:
    """Return the largest error of the soft Fourier curves in float32 against float64, over two periods."""
    x = torch.linspace(-1, 1, 200_001, device=device)
    rows = []
    for name, function in SOFT.items():
        function = function.to(device)
        value = (function.value(x).double() - function.value(x.double())).abs().max().item()
        rows.append([name, f"{value:.1e}"])
    return rows


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    device = torch.device(parser.parse_args().device)
    torch.set_num_threads(1)
    extra: dict[str, Step] = {f"naive Fourier sum, N = {n}": naive_fourier(n) for n in (5, 20)}
    lines = [
        "# Time and memory of rounding",
        "",
        f"`python benchmarks/rounding_speed.py`; {machine(device.type, 1)}, {versions()}.",
        "",
        f"Forward + backward of float32, medians of {RUNS} interleaved runs, as ratios to `x.clone()` forward + "
        "backward. Peak is the most memory allocated at a time, as a multiple of x (`x.clone()` itself: 2). Saved are "
        "the tensors kept for the backward in eager mode.",
        "",
    ]
    columns = ["rounding", "compiled", "peak", "eager", "peak, eager", "saved"]
    for shape in SHAPES:
        bench = Bench(shape, device)
        for title, functions, more in (
            ("Hard forward", HARD, extra),
            ("Soft forward, Fourier", SOFT, {}),
            ("Soft and noisy forward, the others", OTHERS, {}),
        ):
            functions = {name: function.to(device) for name, function in functions.items()}
            lines += [f"## {title}, x of shape {shape}", "", *table(columns, roundings(bench, functions, more))]
    lines += [
        "## Soft Fourier in float32: greatest error to float64",
        "",
        *table(["rounding", "error"], errors(device)),
    ]
    publish(lines, f"rounding_speed_{device.type}")


if __name__ == "__main__":
    main()
