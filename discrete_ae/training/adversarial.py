"""Adversarial training of the autoencoder (Goodfellow et al. 2014, arXiv:1406.2661).

Axes: B batch, C audio channels, N samples.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from discrete_ae.losses import Adversary
from discrete_ae.training.module import AutoencoderModule, for_callbacks


class AdversarialModule(AutoencoderModule):
    """An AutoencoderModule that also trains discriminators, from step `loss.adversary.begin_step` on.

    A training step runs the autoencoder's forward once. The discriminators step on its detached reconstruction; then
    the autoencoder steps against the updated discriminators. With two optimizers Lightning leaves the order of steps,
    gradient clipping and learning rate schedules to the module ("manual optimization").

    Args:
        arguments: arguments of AutoencoderModule.
        discriminator_optimizer: function that maps parameters to an optimizer; its learning rate follows a schedule of
            the same shape, which starts at `begin_step`.
        gradient_clip_val: bound on the gradient norm, for autoencoder and discriminators separately; None or 0 for no
            bound.
    """

    def __init__(
        self,
        *arguments: Any,
        discriminator_optimizer: Callable[..., Optimizer],
        gradient_clip_val: float | None,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self.make_discriminator_optimizer = discriminator_optimizer
        self.gradient_clip_val = gradient_clip_val
        self.automatic_optimization = False
        judge = self.adversary.discriminator_loss
        self.discriminator_loss = self.compiled(judge) if self.compiled else judge

    @property
    def adversary(self) -> Adversary:
        """The loss's discriminators."""
        adversary = self.loss.adversary
        assert adversary is not None
        return adversary

    def configure_optimizers(self) -> Any:
        """Return the optimizers of the autoencoder and of the discriminators."""
        steps = self.trainer.max_steps
        adversarial_steps = max(1, steps - self.adversary.begin_step) if steps > 0 else steps
        return [
            super().configure_optimizers(),
            self._with_schedule(self.make_discriminator_optimizer, self.adversary.parameters(), adversarial_steps),
        ]

    def training_step(self, audio: Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Step the discriminators, then the autoencoder, on a batch of crops (B, C, N)."""
        generator, discriminators = cast(Any, self.optimizers())
        generator_rate, discriminator_rate = cast(Any, self.lr_schedulers())
        adversarial = self.global_step >= self.adversary.begin_step
        output = self._training_output(audio, batch_idx)

        if adversarial:
            loss = self.discriminator_loss(output.reconstruction, audio)
            self._watch(loss)
            if self.is_logged:
                self.log("train/discriminator", loss.detach())
            discriminators.zero_grad()
            self._backward(loss)
            self._clip(discriminators.optimizer)
            discriminators.optimizer.step()  # not by Lightning, so that it counts only the autoencoder's steps
            torch.clear_autocast_cache()  # which has the parameters from before this step
            discriminator_rate.step()

        values = self.training_loss(output.reconstruction, audio, output.losses, adversarial=adversarial)
        self._watch(values.total)
        self._log_training(values, output.codes)
        generator.zero_grad()
        self._backward(values.total)
        generator.step()
        generator_rate.step()
        return {"loss": values.total.detach()} | for_callbacks(output)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """See AutoencoderModule; called for the autoencoder's optimizer only."""
        super().on_before_optimizer_step(optimizer)
        self._clip(optimizer)

    def _backward(self, loss: Tensor) -> None:
        # Lightning runs the whole step under autocast; a backward pass takes its precision from its forward pass.
        with torch.autocast(self.device.type, enabled=False):
            self.manual_backward(loss)

    def _clip(self, optimizer: Optimizer) -> None:
        algorithm = cast(Any, self.trainer).gradient_clip_algorithm
        self.configure_gradient_clipping(optimizer, self.gradient_clip_val, algorithm)
