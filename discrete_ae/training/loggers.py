"""The TensorBoard logger of a run, and functions that log audio, pictures, histograms and hyperparameters.

Audio, pictures and histograms go to TensorBoard and Weights & Biases. Other loggers omit them, with one warning.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch.nn.functional as F
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

MAX_WANDB_BINS = 512
SHOWN_COLUMNS = 5  # in TensorBoard's HPARAMS tab, until the user selects others

log = logging.getLogger("discrete_ae")


class RunLogger(TensorBoardLogger):
    """A TensorBoard logger that writes events directly into the run folder, and documented tags only.

    Args:
        run_dir: folder of the run.
    """

    def __init__(self, run_dir: str) -> None:
        super().__init__(save_dir=run_dir, name=None, version="", flush_secs=5)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """See Logger; drops Lightning's "epoch", which is meaningless for a stream of crops."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    def save(self) -> None:
        """Flush; writes no hparams file, since config.yaml holds the run's configuration."""
        self.experiment.flush()


def log_audio(loggers: Sequence[Logger], tag: str, audio: Tensor, sample_rate: int, step: int) -> None:
    """Log audio (N,), clipped to full scale."""
    audio = audio.clamp(-1, 1)
    _log(
        loggers,
        # TensorBoard's writer treats a single sample as empty audio.
        lambda writer: writer.add_audio(tag, F.pad(audio, (0, max(0, 2 - len(audio)))), step, sample_rate),
        lambda wandb: wandb.log_audio(tag, [audio.numpy()], step, sample_rate=[sample_rate]),
    )


def log_picture(loggers: Sequence[Logger], tag: str, pixels: NDArray[np.uint8], step: int) -> None:
    """Log a picture (height, width, 3)."""
    _log(
        loggers,
        lambda writer: writer.add_image(tag, pixels, step, dataformats="HWC"),
        lambda wandb: wandb.log_image(tag, [pixels], step),
    )


def log_counts(loggers: Sequence[Logger], tag: str, counts: NDArray[np.int64], step: int) -> None:
    """Log a histogram with one bin per index: `counts[i]` is the count of i."""
    numbers = np.arange(len(counts))

    def log_in_wandb(logger: WandbLogger) -> None:
        import wandb

        bins, ends = min(len(counts), MAX_WANDB_BINS), (-0.5, len(counts) - 0.5)
        histogram = np.histogram(numbers, bins, ends, weights=counts)
        logger.log_metrics(cast(Any, {tag: wandb.Histogram(np_histogram=histogram)}), step)

    _log(
        loggers,
        lambda writer: writer.add_histogram_raw(
            tag,
            min=0,
            max=len(counts) - 1,
            num=int(counts.sum()),
            sum=float((numbers * counts).sum()),
            sum_squares=float((numbers**2 * counts).sum()),
            bucket_limits=(numbers + 0.5).tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        ),
        log_in_wandb,
    )


def log_hyperparameters(loggers: Sequence[Logger], values: Mapping[str, Any], figures: Sequence[str]) -> None:
    """Log the hyperparameters of a run.

    Args:
        loggers: the run's loggers.
        values: hyperparameters by key, not nested. The most informative come first, since TensorBoard's table of runs
            shows only the first few.
        figures: tags of scalars, logged elsewhere, that the table shows beside the hyperparameters.
    """
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(values))
            continue
        experiment, *session = hparams(dict(values), dict.fromkeys(figures))
        held = experiment.value[0].metadata.plugin_data
        described = HParamsPluginData.FromString(held.content)
        for index, info in enumerate(described.experiment.hparam_infos):
            info.differs = index < SHOWN_COLUMNS  # TensorBoard sorts by this flag, then by name
        held.content = described.SerializeToString()
        for summary in (experiment, *session):
            logger.experiment._get_file_writer().add_summary(summary)


@contextlib.contextmanager
def quiet_writer() -> Iterator[None]:
    """Hide OSErrors of background threads; TensorBoard's next call raises the error of its writer thread again."""
    usual = threading.excepthook
    threading.excepthook = lambda raised: None if isinstance(raised.exc_value, OSError) else usual(raised)
    try:
        yield
    finally:
        threading.excepthook = usual


def finish(loggers: Sequence[Logger]) -> None:
    """Close the Weights & Biases run, which the next run of this process would otherwise continue."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb

        wandb.finish()


def _log(
    loggers: Sequence[Logger],
    in_tensorboard: Callable[[SummaryWriter], None],
    in_wandb: Callable[[WandbLogger], None],
) -> None:
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            in_tensorboard(logger.experiment)
        elif isinstance(logger, WandbLogger):
            in_wandb(logger)
        elif not any(isinstance(other, TensorBoardLogger | WandbLogger) for other in loggers):
            _say_what_is_left_out(logger)


@functools.lru_cache(maxsize=16)
def _say_what_is_left_out(logger: Logger) -> None:
    """Warn once per logger."""
    log.warning("%s logs scalars only: audio, pictures and histograms are omitted", type(logger).__name__)
