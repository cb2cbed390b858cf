r"""Encode a corpus by many processes, on one machine or several, with Lightning's `Trainer.predict`.

`trainer=ddp` among the arguments starts one process for each device of this machine:

    discrete-ae encode corpus -o codes -c best.ckpt trainer=ddp
    discrete-ae encode corpus -o codes -c best.ckpt trainer=ddp trainer.accelerator=cpu trainer.devices=2

Under SLURM srun starts the processes, and Lightning takes who is who from its environment:

    srun -N 2 --ntasks-per-node=4 --gpus-per-node=4 --kill-on-bad-exit=1 \
        discrete-ae encode corpus -o codes -c best.ckpt --skip-existing \
        trainer=ddp trainer.devices=4 trainer.num_nodes=2

The recordings are shared out by duration before the work begins, so that no rank waits for another until all are done.
Then rank 0 has all outcomes, and writes what there is one of: manifest, shards, the summary.

When a process is killed, what was written stays, each file whole, no manifest is written, and the same command with
--skip-existing goes on. One that Lightning started takes the others of its machine with it, within five seconds
(Lightning kills them all); those of other machines then end with an error when they would hear of it, at the end of
their share, and under srun --kill-on-bad-exit=1 at once. If the first process is killed, those that it started end
with the recording that they are at.
"""

import logging
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discrete_ae.cli.files import Job
from discrete_ae.cli.outcome import Outcome
from discrete_ae.cli.shares import in_groups, in_turn, measure, share_out
from discrete_ae.errors import DataError, UsageError, UserError

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from torch import nn

    from discrete_ae.cli.encoding_module import EncodeGroup, EncodingModule

_OVERRIDE = re.compile(r"(\+\+?|~)?trainer(\.[\w.]+)?=.*", re.DOTALL)
# The ranks work for hours without a word to one another. One that dies is noticed by its closed connection.
_PATIENCE = timedelta(days=30)


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell inputs from settings of the trainer, `trainer=NAME` and `trainer.KEY=VALUE`.

    A file that has such a name is an input.

    Returns:
        The inputs, and the settings.
    """
    overrides = [given for given in arguments if _OVERRIDE.fullmatch(given) and not Path(given).exists()]
    return [given for given in arguments if given not in overrides], overrides


def encode_distributed(
    jobs: Sequence[Job],
    encode_group: "EncodeGroup",
    overrides: Sequence[str],
    *,
    model: "nn.Module",
    describe: Callable[[Job], Outcome],
    finish: Callable[[list[Outcome]], int],
    keep_existing: bool,
) -> int:
    """Encode recordings by as many processes as the settings of the trainer say. Every process calls this.

    Args:
        jobs: all that is to be done; where the processes disagree, rank 0 is right.
        encode_group: encodes some of it with `model`, and yields an outcome for each.
        overrides: as of `split_overrides`.
        model: on the CPU; it is moved to the device of the rank.
        describe: the outcome of a job whose target exists and is kept: an entry, or the error that it exists.
        finish: called once, on rank 0, with the outcomes of all jobs in their order; returns the exit status.
        keep_existing: whether jobs whose target exists are left out of the work, and handed to `describe`.

    Returns:
        The exit status of this process: that of `finish`, except that the processes which Lightning started end with 0,
        since it takes any other status of theirs for a crash, and kills the first process at its end.

    Raises:
        UsageError: for settings that do not exist or do not fit.
        DataError: another process ended early; or from `finish`.
        KeyboardInterrupt: at Ctrl-C.
    """
    trainer = _trainer(overrides)
    _check_strategy(trainer, overrides)
    from discrete_ae.cli.encoding_module import EncodingModule

    ranks = _Ranks()
    shared: list[Job] = []

    def groups() -> list[Any]:
        ranks.meet(trainer.global_rank, trainer.world_size)
        shared.extend(ranks.from_first(list(jobs)))
        mine = measure(shared[trainer.global_rank :: trainer.world_size], keep_existing=keep_existing)
        shares = share_out(in_turn(ranks.from_all(mine)), trainer.world_size)
        return in_groups(shares[trainer.global_rank])

    module = EncodingModule(model, encode_group, describe, groups)
    try:
        _predict(trainer, module)
        found = ranks.to_first(module.outcomes)
        status = ranks.from_first(_finished(finish, shared, found) if found is not None else None)
    except BaseException:
        # In the middle of a collective operation the others would not end by themselves.
        if kill := getattr(trainer.strategy.launcher, "kill", None):
            kill(signal.SIGKILL)
        raise
    finally:
        ranks.part()
    if isinstance(status, UserError):
        raise status
    return status if _speaks_for_itself(trainer) else 0


def _finished(
    finish: Callable[[list[Outcome]], int], jobs: Sequence[Job], found: Sequence[Sequence[Outcome]]
) -> int | UserError:
    by_target = {outcome.job.target: outcome for outcomes in found for outcome in outcomes}
    lost = "not encoded, for no known reason; run again with --skip-existing"
    outcomes = [by_target.get(job.target) or Outcome(job, None, f"{job.source}: {lost}") for job in jobs]
    try:
        return finish(outcomes)
    except UserError as error:
        return error


def _predict(trainer: "pl.Trainer", module: "EncodingModule") -> None:
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",  # a group is a list of names, and loads in no time
            ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 with torch from 2.11 on
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            trainer.predict(module, return_predictions=False)
        except SystemExit as ended:
            if isinstance(ended.__context__, KeyboardInterrupt):  # of which Lightning makes an exit with status 1
                raise KeyboardInterrupt from ended
            raise


def _trainer(overrides: Sequence[str]) -> "pl.Trainer":
    """The trainer of the configuration, which writes nothing and computes in float32, as encoding always does."""
    # Here, not above: they take seconds to import, and encoding by one process needs none of them.
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from discrete_ae.cli.overrides import compose_config

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if fixed := [given for given in overrides if given.lstrip("+~").startswith("trainer.precision=")]:
        raise UsageError(f"{fixed[0]}: codes are always computed in float32; leave it out")
    config = compose_config(overrides)
    try:
        trainer: pl.Trainer = instantiate(
            config.trainer,
            precision="32-true",
            inference_mode=False,  # what runs on other threads is not in it
            logger=False,
            callbacks=None,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_predict_batches=None,
        )
    except InstantiationException as error:
        if isinstance(error.__cause__, TypeError | ValueError | MisconfigurationException):
            raise UsageError(f"trainer: {' '.join(str(error.__cause__).split())}") from error
        raise
    return trainer


def _check_strategy(trainer: "pl.Trainer", overrides: Sequence[str]) -> None:
    """Refuse what does not give every process a whole model, or cannot start it."""
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
    from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

    fits = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
    if not fits or isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise UsageError(f"trainer: {type(trainer.strategy).__name__} cannot encode; use trainer=ddp, or one device")
    # Lightning starts the others by the command line of this process.
    if trainer.num_devices > 1 and _starts_processes(trainer) and not set(overrides) <= set(sys.argv):
        raise UsageError("several processes are started by the command discrete-ae encode only; run it in a shell")


def _starts_processes(trainer: "pl.Trainer") -> bool:
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return environment is not None and not environment.creates_processes_externally


def _speaks_for_itself(trainer: "pl.Trainer") -> bool:
    return not _starts_processes(trainer) or trainer.local_rank == 0


class _Ranks:
    """What the ranks tell one another: over the CPU's network on a GPU too, where a dead one is noticed at once."""

    def __init__(self) -> None:
        self._rank, self._size = 0, 1
        self._group: Any = None

    def meet(self, rank: int, size: int) -> None:
        """Wait for all ranks."""
        import torch.distributed as dist

        self._rank, self._size = rank, size
        if size > 1:
            self._group = self._together(dist.new_group, backend="gloo", timeout=_PATIENCE)

    def part(self) -> None:
        """Close the connections: a process that ends with them open may be aborted by its own threads of theirs."""
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()

    def from_first(self, given: Any) -> Any:
        """What rank 0 gives."""
        import torch.distributed as dist

        box = [given if self._rank == 0 else None]
        if self._size > 1:
            self._together(dist.broadcast_object_list, box, src=0, group=self._group)
        return box[0]

    def from_all(self, given: Any) -> list[Any]:
        """What each rank gives, by rank."""
        import torch.distributed as dist

        found = [given] * self._size
        if self._size > 1:
            self._together(dist.all_gather_object, found, given, group=self._group)
        return found

    def to_first(self, given: Any) -> list[Any] | None:
        """What each rank gives, by rank; None on the others than rank 0."""
        import torch.distributed as dist

        found: list[Any] | None = [given] * self._size if self._rank == 0 else None
        if self._size > 1:
            self._together(dist.gather_object, given, found, dst=0, group=self._group)
        return found

    def _together(self, operation: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return operation(*arguments, **options)
        except RuntimeError as error:
            raise DataError(
                f"rank {self._rank}: another process of this run ended early; what it wrote stays, run again with "
                "--skip-existing"
            ) from error
