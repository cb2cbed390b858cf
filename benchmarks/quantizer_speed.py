"""Compare each quantizer with its counterpart in vector-quantize-pytorch: time and memory of a training step.

    python benchmarks/quantizer_speed.py                    # about five minutes; --device cuda on a GPU

Forward and backward on latents (16, D, 1000), by every YAML of conf/quantizer with its weighted losses, and by
the library's class with the same numbers, in the layout (batch, frames, channels) that it takes without a copy. Both
are timed in turn; the table has medians. Kept memory is what autograd saves for the backward pass, without parameters,
as a multiple of the latents. Writes benchmarks/results/quantizer_speed_<device>.md.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _common import REPOSITORY, composed, interleaved, machine, publish, table, versions
from hydra.utils import instantiate
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, LFQ, GroupedResidualVQ, ResidualFSQ, ResidualVQ, SimVQ, VectorQuantize

BATCH, FRAMES, ROUNDS = 16, 1000, 15
OTHERS = {"identity", "rvq_pretrained"}  # no quantizer, and one that begins as `ema_rvq`
QUANTIZERS = sorted({path.stem for path in (REPOSITORY / "conf" / "quantizer").glob("*.yaml")} - OTHERS)
LEARNED = {"learnable_codebook": True, "ema_update": False, "threshold_ema_dead_code": 0}


class SideBySide(nn.Module):
    """Several modules of the library side by side, each on its own channels, where it has no class for that."""

    def __init__(self, make: Callable[[], nn.Module], count: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(make() for _ in range(count))

    def forward(self, latents: Tensor) -> tuple[Tensor, Any, Tensor]:
        """Return the concatenated values, None for codes, and the sum of the losses."""
        width = latents.shape[-1] // len(self.parts)
        found = [part(own.contiguous()) for part, own in zip(self.parts, latents.split(width, -1), strict=True)]
        losses = [loss.sum() for one in found for loss in one[2:]]
        return torch.cat([one[0] for one in found], -1), None, sum(losses, torch.zeros(()))


def rvq(**arguments: Any) -> ResidualVQ:
    """Return a ResidualVQ with 8 stages of 256 entries in 32 channels."""
    return ResidualVQ(**{"dim": 32, "num_quantizers": 8, "codebook_size": 256, "rotation_trick": False} | arguments)


def vq(**arguments: Any) -> VectorQuantize:
    """Return a VectorQuantize with 8 codebooks of 256 entries in 4 channels each."""
    product = {"dim": 32, "codebook_dim": 4, "heads": 8, "separate_codebook_per_head": True, "codebook_size": 256}
    return VectorQuantize(**product | arguments)


FINITE = partial(FSQ, [4, 4, 4, 4], num_codebooks=8, preserve_symmetry=True)
LOOKUP = partial(LFQ, codebook_size=256, num_codebooks=8)
OTHER_GRADIENTS = (
    *("custom_gradient", "finite_difference", "fourier", "linear", "sigmoid", "softmax", "stochastic", "uniform_noise"),
)
COUNTERPARTS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "ste": ("FSQ", FINITE),
    **dict.fromkeys(OTHER_GRADIENTS, ("FSQ, which is `ste`", FINITE)),
    "fsq_noise": ("FSQ, noise_dropout", partial(FINITE, noise_dropout=0.5)),
    "residual_fsq": (
        "4 ResidualFSQ",
        partial(SideBySide, partial(ResidualFSQ, dim=8, levels=[2] * 8, num_quantizers=2), 4),
    ),
    "vq": ("VectorQuantize", partial(vq, **LEARNED)),
    "mste": ("VectorQuantize", partial(vq, rotation_trick=False, **LEARNED)),
    "diveq": ("VectorQuantize, directional_reparam", partial(vq, directional_reparam=True, threshold_ema_dead_code=1)),
    "simvq": ("8 SimVQ", partial(SideBySide, partial(SimVQ, 4, 256), 8)),
    "lfq": ("LFQ", LOOKUP),
    "bsq": ("LFQ, spherical", partial(LOOKUP, spherical=True)),
    "rvq": ("ResidualVQ", partial(rvq, **LEARNED)),
    "ema_rvq": ("ResidualVQ, EMA", partial(rvq, decay=0.99, threshold_ema_dead_code=0.1)),
    "grouped_rvq": (
        "GroupedResidualVQ",
        partial(GroupedResidualVQ, dim=32, groups=4, num_quantizers=2, codebook_size=256, **LEARNED),
    ),
    "dac_rvq": ("ResidualVQ, cosine, one projection", partial(rvq, codebook_dim=8, use_cosine_sim=True)),
}  # fmt: skip
"""Name and constructor of the counterpart, by quantizer."""


class Step:
    """Forward and backward of a module on random latents."""

    def __init__(self, module: nn.Module, latents: Tensor, loss: Callable[[Any], Tensor]) -> None:
        self.module, self.latents, self.loss = module.to(latents.device).train(), latents.clone().requires_grad_(), loss

    def __call__(self) -> None:
        """Run one step from cleared gradients."""
        self.latents.grad = None
        self.module.zero_grad(set_to_none=True)
        self.loss(self.module(self.latents)).backward()

    def kept(self) -> float:
        """Return the bytes saved for the backward pass, as a multiple of the latents' bytes."""
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, nn.Parameter):
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            found = self.module(self.latents)
        del found
        return sum(sizes.values()) / self.latents.nbytes


def loss_of_ours(weights: dict[str, float]) -> Callable[[Any], Tensor]:
    """Return a loss function: the mean square of the latents, to send a gradient, plus the weighted losses."""
    return lambda out: out.latents.square().mean() + sum(weights[name] * loss for name, loss in out.losses.items())


def loss_of_theirs(out: Any) -> Tensor:
    """Return the same loss for the library's output: values, codes and, for most classes, losses."""
    return out[0].square().mean() + (out[2].sum() if len(out) > 2 else 0.0)


def measured(
    name: str, device: str, batch: int = BATCH, frames: int = FRAMES, rounds: int = ROUNDS
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the median seconds of a step and the kept memory, by whose: "ours", and "theirs" with a counterpart."""
    config = composed(f"quantizer={name}", "trainer=cpu")
    weights = {loss: float(weight) for loss, weight in config.loss.quantizer_weights.items()}
    torch.manual_seed(0)
    module = instantiate(config.quantizer)
    module.leave_out(loss for loss, weight in weights.items() if not weight)
    latents = torch.randn(batch, module.dim, frames).to(device)
    steps = {"ours": Step(module, latents, loss_of_ours(weights))}
    if name in COUNTERPARTS:
        steps["theirs"] = Step(COUNTERPARTS[name][1](), latents.mT.contiguous(), loss_of_theirs)
    times = interleaved(steps, device, rounds)
    return times, {whose: step.kept() for whose, step in steps.items()}


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    device = parser.parse_args().device
    torch.set_num_threads(1)
    rows = []
    for name in QUANTIZERS:
        times, kept = measured(name, device)
        theirs = ["", "", ""]
        if "theirs" in times:
            theirs = [f"{times['ours'] / times['theirs']:.2f}", COUNTERPARTS[name][0], f"{kept['theirs']:.1f}"]
        rows.append([f"`{name}`", f"{1e3 * times['ours']:.1f}", *theirs[:2], f"{kept['ours']:.1f}", theirs[2]])
        print(rows[-1], flush=True)
    lines = [
        "# Quantizers: time and memory of a training step",
        "",
        f"`python benchmarks/quantizer_speed.py{' --device cuda' if device == 'cuda' else ''}`; {machine(device, 1)}; "
        f"{versions('vector-quantize-pytorch')}. Forward and backward of latents ({BATCH}, D, {FRAMES}) in float32, "
        f"median of {ROUNDS}, in turn with the counterpart; what is kept is a multiple of the latents.",
        "",
        *table(["quantizer", "ms", "of its counterpart's", "counterpart", "kept", "kept by it"], rows),
    ]
    publish(lines, f"quantizer_speed_{device}")


if __name__ == "__main__":
    main()
