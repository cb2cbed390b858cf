"""Compare our Snake activation with DAC's: time and memory saved for the backward pass, per element.

    /tmp/peers/bin/python benchmarks/snake.py                        # about 2 minutes on one core
    /tmp/peers/bin/python benchmarks/snake.py --device cuda

Medians of interleaved runs of forward and backward. benchmarks/peers.py describes the environment with DAC's own;
without it, DAC's formula is used, compiled by TorchScript as in DAC. Writes
benchmarks/results/snake_<device>.md.
"""

import argparse
from collections.abc import Callable

import torch
from _common import interleaved, machine, publish, table, versions
from peers import MissingPeerError, quietly_imported
from torch import Tensor, nn

from discrete_ae.model.activations import Snake

SHAPES = ((4, 64, 16000), (4, 512, 400))
COLUMNS = ("Snake", "ns per element", "ours by it", "bytes kept per element")


class PlainSnake(nn.Module):
    """x + sin²(αx) / α, as in DAC 1.0.0 (dac/nn/layers.py)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to (B, D, T)."""
        return x + (self.alpha + 1e-9).reciprocal() * torch.sin(self.alpha * x).pow(2)


def scripted(dim: int) -> nn.Module:
    """Return DAC's own Snake, or its formula in TorchScript."""
    try:
        return quietly_imported("dac.nn.layers", "descript-audio-codec").Snake1d(dim)
    except MissingPeerError as error:
        print(f"DAC's own is replaced by its formula: {error}")
        return torch.jit.script(PlainSnake(dim))


def kept_bytes(snake: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Return the bytes saved for the backward pass, each storage once; x itself counts, as in a network."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        snake(x)
    return sum(storages.values())


def step(snake: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor) -> Callable[[], None]:
    """Return a function that runs a forward and backward."""

    def run() -> None:
        x.grad = None
        snake(x).backward(upstream)

    return run


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads")
    parser.add_argument("--rounds", type=int, default=21)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lines = [
        "# The Snake activation",
        "",
        f"`python benchmarks/snake.py --device {given.device} --threads {given.threads} --rounds {given.rounds}`; "
        f"{machine(given.device, given.threads)}, {versions('descript-audio-codec')}.",
        "",
        "Forward + backward, float32, medians of interleaved runs. `ours by it` is how many times faster ours in eager "
        "mode is. Kept is what the forward holds for the backward, x itself included where it is one of it.",
        "",
    ]
    for shape in SHAPES:
        torch.manual_seed(0)
        x = torch.randn(shape, device=given.device, requires_grad=True)
        upstream = torch.randn(shape, device=given.device)
        snakes: dict[str, nn.Module] = {
            "ours": Snake(shape[1]),
            "DAC's, TorchScript": scripted(shape[1]),
            "DAC's formula": PlainSnake(shape[1]),
        }
        snakes = {name: snake.to(given.device) for name, snake in snakes.items()}
        torch._dynamo.reset()
        snakes["ours, compiled"] = torch.compile(snakes["ours"])
        snakes["DAC's formula, compiled"] = torch.compile(snakes["DAC's formula"])
        # TorchScript specializes during its first calls.
        for snake in snakes.values():
            for _ in range(3):
                step(snake, x, upstream)()
        times = interleaved(
            {name: step(snake, x, upstream) for name, snake in snakes.items()}, given.device, given.rounds
        )
        rows = [
            [
                name,
                f"{1e9 * times[name] / x.numel():.3f}",
                f"{times[name] / times['ours']:.2f}",
                f"{kept_bytes(snake, x) / x.numel():.1f}",
            ]
            for name, snake in snakes.items()
        ]
        lines += [f"## x of shape {shape}", "", *table(COLUMNS, rows)]
    publish(lines, f"snake_{given.device}")


if __name__ == "__main__":
    main()
