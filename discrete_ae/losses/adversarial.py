"""What discriminators make of a reconstruction: their own loss, and the two terms that the autoencoder gets of them.

The least-squares game (Mao et al. 2016, arXiv:1611.04076) with feature matching, as neural codecs play it: HiFi-GAN
(arXiv:2010.05646, section 2.3), with the features' distance relative to their size as in EnCodec (arXiv:2210.13438,
equation 2). Ours differs in this: every sum over discriminators and layers is a mean, so that a weight means the same
when discriminators are added.

Axes: B batch, C audio channels, N samples.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from discrete_ae.checks import positive, whole_number

TERMS = ("adversarial", "feature_matching")
_FLOOR = 1e-5  # of the size of features, which a layer of zeros would divide by


class Adversary(nn.Module):
    """Discriminators and the losses of both sides.

    Networks run under the caller's autocast, losses are float32. A discriminator maps audio (B, C, N) to a list with an
    entry for each of its parts: a list of feature maps, the last of which is the score.

    Args:
        discriminators: modules by name; None is left out.
        weights: of the terms `adversarial` and `feature_matching`, above 0.
        begin_step: optimizer step from which the trainer plays the game; before it the autoencoder trains alone.

    Raises:
        ValueError: for no discriminator, other names, or a number outside its range.
    """

    def __init__(
        self, discriminators: Mapping[str, nn.Module | None], weights: Mapping[str, float], begin_step: int = 0
    ) -> None:
        super().__init__()
        present = {name: module for name, module in discriminators.items() if module is not None}
        if not present:
            raise ValueError("discriminators: expected at least one, got none; set loss.adversary=null to have none")
        if set(weights) != set(TERMS):
            raise ValueError(f"weights: expected one for each of {sorted(TERMS)}, got {sorted(weights)}")
        self.discriminators = _Discriminators(present)
        self.weights = {name: positive(f"weights.{name}", weights[name]) for name in TERMS}
        self.begin_step = whole_number("begin_step", begin_step, 0)

    def discriminator_loss(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Mean over discriminators of mean (1 - score of target)^2 + mean (score of reconstruction)^2.

        Scores of 1 are real, of 0 reconstructed; the loss is 0 for a perfect discriminator, 1/2 at chance. Its gradient
        goes to the discriminators, never to the reconstruction (B, C, N).
        """
        outputs = self.discriminators(torch.cat([target.float(), reconstruction.detach().float()]))
        scores = [maps[-1].float().chunk(2) for maps in outputs]
        losses = [(1 - real).square().mean() + fake.square().mean() for real, fake in scores]
        return torch.stack(losses).mean()

    def generator_terms(self, reconstruction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The terms `adversarial` and `feature_matching`, scalars of at least 0.

        adversarial: mean over discriminators of mean (1 - score of reconstruction)^2.
        feature_matching: mean over discriminators and their layers, scores left out, of the mean absolute difference
            of features over the mean absolute feature of the target.

        The gradient goes to the reconstruction (B, C, N), never to the discriminators' parameters.
        """
        with torch.no_grad():
            wanted = self.discriminators(target.float())
        constants = {name: parameter.detach() for name, parameter in self.discriminators.named_parameters()}
        found = functional_call(self.discriminators, constants, reconstruction.float())
        scores = [(1 - maps[-1].float()).square().mean() for maps in found]
        distances = [
            torch.stack([_relative_distance(*pair) for pair in zip(maps[:-1], goals[:-1], strict=True)]).mean()
            for maps, goals in zip(found, wanted, strict=True)
        ]
        return {"adversarial": torch.stack(scores).mean(), "feature_matching": torch.stack(distances).mean()}


class _Discriminators(nn.ModuleDict):
    """Discriminators by name, all of which judge the same audio."""

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        """Feature maps of every part of every discriminator for audio (B, C, N)."""
        return [maps for discriminator in self.values() for maps in discriminator(audio)]


def _relative_distance(found: Tensor, wanted: Tensor) -> Tensor:
    found, wanted = found.float(), wanted.float()
    return (found - wanted).abs().mean() / wanted.abs().mean().clamp_min(_FLOOR)
