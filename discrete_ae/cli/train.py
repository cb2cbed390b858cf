"""`discrete-ae train` and `python train.py`: configuration from the command line, one run or several."""

import logging
import math
import os
import shlex
import sys
import traceback
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from discrete_ae.build import build_training
from discrete_ae.cli import run_name
from discrete_ae.cli.advice import command, shown
from discrete_ae.cli.ending import end_with_parent, is_lost_connection, say_once, speaks_for_the_lost, take_along
from discrete_ae.cli.overrides import CONFIG_DIR, CONFIG_NAME, explained
from discrete_ae.cli.sweep import ReportSweep, earlier, forget_failure, note_failure
from discrete_ae.errors import DataError, UsageError, UserError, from_system
from discrete_ae.training import TrainingRun
from discrete_ae.training.callbacks import INTERRUPTED_EXIT_STATUS

# Here, since a job in a process of its own imports this file and nothing else of it runs before its folder is named.
run_name.register()


def main(arguments: list[str] | None = None) -> None:
    """Train as the arguments say (default: those of the process), and exit with a status if anything failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if os.environ.get("LOCAL_RANK", "0") != "0":  # a process that another one of the run has started
        end_with_parent()
    try:
        given = _parsed(arguments)
    except UsageError as error:
        sys.exit(_report(error))
    statuses: list[int] = []
    ReportSweep.failed = 0

    @hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=CONFIG_NAME)
    def job(config: DictConfig) -> float:
        """Return the least val/reconstruction, which a sweeper may search by; NaN for a run that failed."""
        # A failure is noted, not raised: the other jobs of a multirun go on, and a user's slip has no traceback.
        is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            return train(config)
        except Exception as error:
            failure = _failure(error)
            if failure is None:
                say_once(traceback.format_exc().rstrip())
                failure = DataError(f"{type(error).__name__}: {error}")
                if not is_sweep:
                    sys.exit(failure.exit_status)
        if is_sweep:
            note_failure(Path(HydraConfig.get().runtime.output_dir), failure)
        statuses.append(_report(failure))
        return math.nan

    # This file, so that the processes which ddp starts by sys.argv run the same, from whichever command it came.
    flags = [argument for argument in arguments if argument not in given.overrides]  # Hydra wants them first
    sys.argv = [__file__, *flags, *given.overrides]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's own way with an exception hides where it came from
    try:
        job()
    except (KeyboardInterrupt, SystemExit) as ended:
        # Of a Ctrl-C outside the training steps Lightning makes an exit with status 1.
        if isinstance(ended, SystemExit) and not isinstance(ended.__context__, KeyboardInterrupt):
            raise
        say_once("Interrupted")
        sys.exit(INTERRUPTED_EXIT_STATUS)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        sys.exit(_report(explained(error, multirun=given.multirun)))
    except OSError as error:
        sys.exit(_report(from_system(error)))
    # Jobs in processes of their own have told their folders only.
    sys.exit(max([*statuses, DataError.exit_status if ReportSweep.failed else 0]))


def train(config: DictConfig) -> float:
    """Make one run of a composed configuration, the whole of it, and return its least val/reconstruction.

    Raises:
        UserError: what the user can mend.
        KeyboardInterrupt: Ctrl-C ended the run, so that no other job begins.
    """
    settings, run_dir = HydraConfig.get(), Path(config.run_dir)
    if settings.mode == RunMode.MULTIRUN:
        if before := earlier(config):
            forget_failure(run_dir)
            if before.is_finished:
                print(f"finished already: {shown(run_dir)}")
                return before.objective
            print(f"going on with: {shown(run_dir)}")
            config.ckpt_path = str(before.checkpoint)
    elif varied := settings.sweeper.get("params"):
        raise UsageError(f"this varies {', '.join(varied)}: add -m for one run each")

    _quieten()
    chosen = {group: settings.runtime.choices[group] for group in ("quantizer", "model")}
    run = build_training(config, _hyperparameters(config, chosen))
    run.data.setup("fit")
    forget_failure(run_dir)
    if run.trainer.is_global_zero:
        OmegaConf.save(config, run_dir / "config.yaml", resolve=True)
        _say_what_runs(run, chosen)
    try:
        run.execute()
    finally:
        take_along(run.trainer)
    if run.trainer.is_global_zero:
        _say_what_next(run)
    if run.interrupted:
        raise KeyboardInterrupt
    return run.objective


def _parsed(arguments: list[str]) -> Namespace:
    """Hydra's flags and the overrides, in any order."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_intermixed_args(arguments)


def _report(error: UserError) -> int:
    say_once(f"error: {error}")
    return error.exit_status


def _failure(error: Exception) -> UserError | None:
    """Return what the user is told of an error; None of a bug. SystemExit where another process tells it."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OmegaConfBaseException):
        return UsageError(" ".join(str(error).split()))
    if isinstance(error, OSError) and error.filename is not None:
        return from_system(error)
    if not is_lost_connection(error):
        return None
    if not speaks_for_the_lost():
        sys.exit(DataError.exit_status)
    return DataError(
        f"another process of this run was killed or cannot be reached ({str(error).splitlines()[0]}); go on from the "
        "run's last checkpoint with ckpt_path="
    )


def _hyperparameters(config: DictConfig, chosen: Mapping[str, str]) -> dict[str, str | float | bool]:
    """Collect what was chosen, flat; TensorBoard sorts the names and shows the first few, so those are short."""
    numbers = {
        "lr": "optim.optimizer.lr",
        "num_codebooks": "num_codebooks",
        "seed": "seed",
        "train.batch_size": "data.batch_size",
        "train.crop_seconds": "data.crop_seconds",
        "train.max_steps": "trainer.max_steps",
    }
    found = {name: OmegaConf.select(config, key) for name, key in numbers.items()}
    return {**chosen, **{name: value for name, value in found.items() if value is not None}}


def _say_what_runs(run: TrainingRun, chosen: Mapping[str, str]) -> None:
    model = run.module.model
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    rate = model.bitrate_bps / 1000
    print(f"{chosen['quantizer']} · {chosen['model']} · {millions:.1f} M parameters · {rate:.2f} kbps")
    print(f"recordings: {run.data.describe()}")
    print(f"run folder: {run.run_dir}")
    if run.module.compiled:
        print("compiling at the first step, which takes a minute or so")


def _say_what_next(run: TrainingRun) -> None:
    # A run that ended before its first validation has only the last one.
    best, last = (shown(run.run_dir / "checkpoints" / name) for name in ("best.ckpt", "last.ckpt"))
    checkpoint = best if best.exists() else last
    recordings = shown(run.data.validation_files[0].path.parent)
    print(f"\ncheckpoint: {checkpoint}\nnext:")
    print(" ", shlex.join([command("tensorboard"), "--logdir", str(shown(run.run_dir).parent)]))
    print(" ", shlex.join([command("discrete-ae"), "encode", str(recordings), "-o", "codes", "-c", str(checkpoint)]))


def _quieten() -> None:
    """Keep from the user what Lightning says of itself, and what is so by design."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # on CPU the cores belong to the model
        ".*Checkpoint directory .* exists and is not empty.*",  # a continued run goes on in its own folder
        ".*The dirpath has changed from.*",  # or in a new one
        ".*smaller than the logging interval.*",
        ".*It is recommended to use .self.log.*sync_dist.*",  # what is logged is that of all ranks already
        ".*does not support code generation for complex operators.*",  # compile=true: FFTs stay as they are
        ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 with torch from 2.11 on
    ):
        warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":
    main()
