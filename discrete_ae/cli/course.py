"""The progress of a sweep: the number of runs done, and the estimated time for the remaining runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from discrete_ae.durations import about, in_words


@dataclass
class Course:
    """The progress of a sweep, updated after each run.

    The estimate assumes that each remaining run trains from its beginning, at the mean speed of the runs so far. The
    mean excludes runs that failed, and runs that an earlier sweep finished.
    """

    total: int | None = None
    """Number of runs; None if the sweeper does not announce it."""
    in_sequence: bool = True
    """True if the runs follow one another in this process, so that the remaining time can be estimated."""
    trained_s: float = 0.0
    trained: float = 0.0
    """Number of runs trained in `trained_s`; a run that was resumed halfway counts one half."""

    def heading(self, number: int, settings: Mapping[str, object]) -> str:
        """Return the line to print before a run: its number, from 1, and the settings that the sweep varies."""
        varied = ", ".join(f"{key}={value}" for key, value in settings.items())
        return f"run {number}{self._of}{': ' if varied else ''}{varied}"

    def line(self, number: int, seconds: float, share: float, *, failed: bool) -> str:
        """Return the line to print after a run.

        Args:
            number: number of the run, from 1.
            seconds: duration of the run.
            share: share of the run's steps that this sweep trained; 0 if an earlier sweep had finished the run.
            failed: True if the run failed.
        """
        if not failed:
            self.trained_s += seconds if share > 0 else 0.0
            self.trained += share
        if failed:
            outcome = f"failed after {in_words(seconds)}"
        else:
            outcome = f"done in {in_words(seconds)}" if share > 0 else "was done already"
        left = self.total - number if self.total and self.in_sequence else 0
        rest = f"; {about(left * self.trained_s / self.trained)} left" if left and self.trained else ""
        return f"run {number}{self._of} {outcome}{rest}"

    @property
    def _of(self) -> str:
        return f" of {self.total}" if self.total else ""
