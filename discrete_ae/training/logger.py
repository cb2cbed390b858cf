"""TensorBoard logger of one run folder."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger


class RunLogger(TensorBoardLogger):
    """Writes events into the run folder itself, and only the documented tags.

    Args:
        run_dir: folder of the run.
        flush_seconds: how often what was logged reaches the disk.
    """

    def __init__(self, run_dir: str, flush_seconds: int = 5) -> None:
        super().__init__(save_dir=run_dir, name=None, version="", flush_secs=flush_seconds)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """See Logger; the count of epochs, which Lightning adds, says nothing of a stream of crops."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    def save(self) -> None:
        """Flush; the run's configuration is in config.yaml, not in a second file."""
        self.experiment.flush()
