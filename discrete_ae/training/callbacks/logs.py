"""Callbacks that log more than scalars: clips, code histograms, rounding curves, hyperparameters, chart layout.

Axes: C audio channels, N samples.
"""

import copy
from collections.abc import Mapping
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from discrete_ae.checks import positive, whole_number
from discrete_ae.data import AudioDataModule
from discrete_ae.metrics import LEVELS_DB, levels_db, mel
from discrete_ae.rounding import Rounding
from discrete_ae.schedules import scheduled_numbers
from discrete_ae.training.loggers import log_audio, log_counts, log_hyperparameters, log_picture
from discrete_ae.training.module import AutoencoderModule

TICKS_KHZ = (0.2, 0.5, 1, 2, 4, 8, 16)

# TensorBoard's CUSTOM SCALARS tab: category, chart, tags. Tags are regular expressions, hence the "$".
LAYOUT = {
    "1 Reconstruction": {
        "reconstruction loss, hard codes": ["val/reconstruction$"],
        "SI-SDR in dB": ["val/si_sdr_db$"],
        "mel distance": ["val/mel$"],
        "soft/hard gap of the loss": ["val/soft_hard_gap$"],
    },
    "2 Codes": {
        "usage": ["val/codes/usage$"],
        "perplexity": ["val/codes/perplexity$"],
        "bitrate of the codes' entropy in bps": ["val/codes/bitrate_bps$"],
    },
    "3 Training": {
        "loss that is optimized": ["train/loss$"],
        "gradient norm before clipping": ["train/gradient_norm$"],
        "learning rate": ["train/learning_rate$"],
    },
}


class LogClips(pl.Callback):
    """A callback that logs a few validation clips after every validation, as audio and log-mel pictures.

    The clips stay the same, and their originals are logged once.

    Args:
        count: number of clips, 0 for none.
        max_seconds: maximum duration of a clip.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, count: int = 4, max_seconds: float = 5.0) -> None:
        self.count = whole_number("count", count, 0)
        self.max_seconds = positive("max_seconds", max_seconds)
        self.clips: list[tuple[str, Tensor]] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, AutoencoderModule)
        first = self.clips is None
        if self.clips is None:
            self.clips = _clips(trainer, self.count, self.max_seconds) if self.count else []
        model = pl_module.model
        for name, audio in self.clips:
            with torch.no_grad():
                reconstruction = model(audio[None].to(pl_module.device)).reconstruction[0].float().cpu()
            if first:
                _log_clip(trainer, f"original/{name}", audio, model.sample_rate)
            _log_clip(trainer, f"reconstruction/{name}", reconstruction, model.sample_rate)


class LogCodeHistograms(pl.Callback):
    """A callback that logs the usage counts of all codebook entries over the validation set, summed over ranks."""

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; runs on every rank to sum the counts."""
        assert isinstance(pl_module, AutoencoderModule)
        usage = pl_module.validation_usage
        if usage is None:
            return
        with usage.sync_context(should_sync=trainer.world_size > 1):
            counts = usage.counts.cpu().numpy()
        if trainer.is_global_zero:
            for k, size in enumerate(usage.codebook_sizes):
                log_counts(trainer.loggers, f"val_codes/codebook_{k}", counts[k, :size], trainer.global_step)


class LogRoundingCurve(pl.Callback):
    """A callback that plots the value and the slope of the quantizer's rounding in training.

    It plots once, or after every validation if the rounding has scheduled values.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        assert isinstance(pl_module, AutoencoderModule)
        roundings = [part for part in pl_module.model.quantizer.modules() if isinstance(part, Rounding)]
        if not roundings or not trainer.loggers or not trainer.is_global_zero:
            return
        if trainer.global_step and not scheduled_numbers(roundings[0]):
            return
        pixels = _pixels(draw_rounding(roundings[0]))
        log_picture(trainer.loggers, "val_rounding/curve_and_slope", pixels, trainer.global_step)


class LogLayout(pl.Callback):
    """A callback that logs the layout of TensorBoard's charts once; equal layouts let runs share charts."""

    def __init__(self) -> None:
        self.logged = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        if self.logged or not trainer.is_global_zero:
            return
        self.logged = True
        charts = {
            category: {title: ["Multiline", tags] for title, tags in of_category.items()}
            for category, of_category in LAYOUT.items()
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(charts)


class LogHyperparameters(pl.Callback):
    """A callback that logs the hyperparameters once, after the first validation.

    TensorBoard's HPARAMS tab shows them beside the validation metrics.

    Args:
        hyperparameters: numbers, strings and booleans by key, not nested; the most informative come first.
    """

    def __init__(self, hyperparameters: Mapping[str, str | float | bool]) -> None:
        self.hyperparameters = dict(hyperparameters)
        self.logged = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        if self.logged or not trainer.is_global_zero:
            return
        self.logged = True
        # Redundant: every quantizer with codes logs val/soft_hard_gap.
        hidden = "val/soft_reconstruction"
        figures = [tag for tag in trainer.callback_metrics if tag.startswith("val/") and tag != hidden]
        log_hyperparameters(trainer.loggers, self.hyperparameters, figures)


def draw_log_mel(audio: Tensor, sample_rate: int) -> NDArray[np.uint8]:
    """Draw the log-mel spectrogram of audio (N,) with axes, as in the comparison page; return (height, width, 3)."""
    top_khz = sample_rate / 2000
    figure = Figure(figsize=(5.2, 3.0))
    figure.subplots_adjust(left=0.12, right=1.0, bottom=0.17, top=0.96)
    axes = figure.subplots()
    image = axes.imshow(
        levels_db(audio.numpy(), sample_rate),
        cmap="magma",
        clim=LEVELS_DB,
        origin="lower",
        extent=(0, len(audio) / sample_rate, 0, mel(1000 * top_khz)),
        aspect="auto",
        interpolation="nearest",
    )
    ticks = [khz for khz in TICKS_KHZ if khz <= top_khz]
    axes.set_yticks([mel(1000 * khz) for khz in ticks], [f"{khz:g}" for khz in ticks])
    axes.set(xlabel="time in s", ylabel="kHz, mel scale")
    figure.colorbar(image, label="dB full scale")
    return _pixels(figure)


def draw_rounding(rounding: Rounding) -> Figure:
    """Draw a rounding over four integers: the soft staircase against the exact one, and the slope."""
    rounding = copy.deepcopy(rounding).cpu()  # its scheduled values may be on a GPU
    x = torch.linspace(-1.499, 2.499, 2001, dtype=torch.float64)  # -1.5 itself would be rounded to -2
    value, slope, exact = (
        function(x).detach().numpy() for function in (rounding.value, rounding.slope, rounding.exact)
    )
    figure = Figure(figsize=(6.4, 5.0))  # fixed margins: an automatic layout takes as long as the drawing
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.1, top=0.93, hspace=0.08)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(x, exact, color="0.6", label=rounding.op)
    above.plot(x, value, color="tab:blue", label="soft value s(x)")
    numbers = {name: number for name, number in scheduled_numbers(rounding).items() if not name.endswith("hard")}
    listed = "".join(f", {name} {number:.3g}" for name, number in numbers.items())
    emits_integers = ", exact forward" if float(rounding.hard) >= 0.5 else ""
    above.set(ylabel="value", title=type(rounding).__name__ + listed + emits_integers)
    above.legend()
    below.plot(x, slope, color="tab:orange")
    below.set(ylabel="slope s'(x)", xlabel="x")
    below.set_ylim(bottom=min(0.0, 1.05 * float(slope.min())))
    return figure


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return the pixels (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _clips(trainer: pl.Trainer, count: int, max_seconds: float) -> list[tuple[str, Tensor]]:
    """Return the first validation clips as (name, (C, N)); for a user's own data module, the first segments."""
    data = cast(Any, trainer).datamodule
    if isinstance(data, AudioDataModule):
        return data.clips(count, max_seconds)
    loaders = cast(Any, trainer.val_dataloaders)
    batch = next(iter(loaders[0] if isinstance(loaders, list) else loaders), ())
    return [(f"segment_{place}", audio.float().cpu()) for place, audio in enumerate(batch[:count])]


def _log_clip(trainer: pl.Trainer, name: str, audio: Tensor, sample_rate: int) -> None:
    mono = audio.mean(dim=0)
    log_audio(trainer.loggers, f"audio/{name}", mono, sample_rate, trainer.global_step)
    log_picture(trainer.loggers, f"val_log_mel/{name}", draw_log_mel(mono, sample_rate), trainer.global_step)
