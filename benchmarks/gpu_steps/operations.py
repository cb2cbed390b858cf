"""Measure forward and backward of every rounding and quantizer, relative to `clone` on an equal tensor."""

import inspect
from collections.abc import Callable

import torch
from _common import REPOSITORY, interleaved
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from discrete_ae import rounding
from gpu_steps.results import Given

Function = Callable[[Tensor], Tensor]


def measure(given: Given) -> None:
    """Measure all of them in eager mode, then as many compiled roundings as time allows."""
    torch.manual_seed(0)
    roundings = {name: kind() for name, kind in inspect.getmembers(rounding, _is_rounding)}
    x = 2 * torch.randn((4, 16, 64) if given.tiny else (64, 64, 4096), device=given.device)
    for module in roundings.values():
        module.to(given.device).train()
    ratios = by_clone(given, x, roundings)
    for name, ratio in ratios.items():
        given.add(**{"rounding": name, "by clone": ratio, "compiled": None})
    by_name = quantizers(given)
    if ratios and by_name:
        given.summarize(
            f"by clone: roundings {min(ratios.values()):.1f} to {max(ratios.values()):.1f}, quantizers "
            f"{min(by_name.values()):.1f} to {max(by_name.values()):.1f}"
        )
    for name in list(roundings)[: 0 if given.tiny else None]:
        if given.left_s < 0:
            given.note(f"no time was left to compile the roundings from {name} on")
            break
        torch.compiler.reset()
        found = by_clone(given, x, {name: torch.compile(roundings[name], fullgraph=True)})
        given.add(**{"rounding": name, "by clone": None, "compiled": found[name]})


def quantizers(given: Given) -> dict[str, float]:
    """Measure every YAML of conf/quantizer on latents (B, D, T) of its width; return the ratios to clone by name."""
    batch, frames = (2, 16) if given.tiny else (32, 512)
    ratios = {}
    for path in sorted((REPOSITORY / "conf" / "quantizer").glob("*.yaml")):
        name = path.stem
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            quantizer = instantiate(compose(overrides=[f"+quantizer={name}"]).quantizer).to(given.device).train()

        def step(latents: Tensor, quantizer: Callable = quantizer) -> Tensor:
            found = quantizer(latents)
            # The losses are added so that the backward pass includes them.
            return found.latents + sum(found.losses.values(), latents.new_zeros(()))

        latents = torch.randn(batch, quantizer.dim, frames, device=given.device)
        ratios |= by_clone(given, latents, {name: step})
        given.add(**{"quantizer": name, "channels": quantizer.dim, "by clone": ratios[name]})
    return ratios


def by_clone(given: Given, x: Tensor, functions: dict[str, Function]) -> dict[str, float]:
    """Return the median time of each function's forward and backward, divided by that of torch.clone, interleaved."""
    x = x.requires_grad_()
    upstream = torch.randn_like(x)

    def step(function: Function) -> Callable[[], None]:
        def once() -> None:
            x.grad = None
            function(x).backward(upstream)

        return once

    steps = {name: step(function) for name, function in {"clone": torch.clone, **functions}.items()}
    for once in steps.values():  # two warm-up calls, with the first one in `interleaved`
        once()
    times = interleaved(steps, given.device, rounds=3 if given.tiny else 20)
    return {name: times[name] / times["clone"] for name in functions}


def _is_rounding(found: object) -> bool:
    return inspect.isclass(found) and issubclass(found, rounding.Rounding) and not inspect.isabstract(found)
