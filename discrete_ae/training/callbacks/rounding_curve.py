"""The rounding's curve and slope as a picture."""

import copy

import lightning.pytorch as pl
import torch
from matplotlib.figure import Figure

from discrete_ae.rounding import Rounding
from discrete_ae.schedules import scheduled_numbers
from discrete_ae.training.logger import RunLogger
from discrete_ae.training.module import AutoencoderModule


class LogRoundingCurve(pl.Callback):
    """Logs what the quantizer's rounding emits in training and which slope its gradient has.

    Once, or with every validation where a number of the rounding follows a schedule.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        assert isinstance(pl_module, AutoencoderModule)
        roundings = [part for part in pl_module.model.quantizer.modules() if isinstance(part, Rounding)]
        if not roundings or not trainer.is_global_zero:
            return
        if trainer.global_step and not scheduled_numbers(roundings[0]):
            return
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                picture = draw_rounding(roundings[0])
                logger.experiment.add_figure("rounding/curve_and_slope", picture, trainer.global_step)


def draw_rounding(rounding: Rounding) -> Figure:
    """Picture of a rounding over four integers: the soft staircase against the exact one, and the slope."""
    rounding = copy.deepcopy(rounding).cpu()  # its scheduled numbers may lie on a GPU
    x = torch.linspace(-1.5, 2.5, 2001, dtype=torch.float64)
    value, slope, exact = (
        function(x).detach().numpy() for function in (rounding.value, rounding.slope, rounding.exact)
    )
    figure = Figure(figsize=(6.4, 5.0))  # a layout that is computed would take as long as the picture
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.1, top=0.93, hspace=0.08)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(x, exact, color="0.6", label=rounding.op)
    above.plot(x, value, color="tab:blue", label="soft value s(x)")
    above.set(ylabel="value", title=_title(rounding))
    above.legend()
    below.plot(x, slope, color="tab:orange")
    below.set(ylabel="slope s'(x)", xlabel="x")
    below.set_ylim(bottom=min(0.0, 1.05 * float(slope.min())))
    return figure


def _title(rounding: Rounding) -> str:
    """Its name, its scheduled numbers as they are now, and whether it emits integers in training."""
    numbers = {name: value for name, value in scheduled_numbers(rounding).items() if not name.endswith("hard")}
    listed = "".join(f", {name} {value:.3g}" for name, value in numbers.items())
    return type(rounding).__name__ + listed + (", exact forward" if float(rounding.hard) >= 0.5 else "")
