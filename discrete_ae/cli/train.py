"""`discrete-ae train` and `python train.py`: train one model or several, configured on the command line."""

import math
import os
import shlex
import sys
import traceback
from argparse import Namespace
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from discrete_ae.signals import SIGNALLED, ending_imports, exiting_on_sigterm, signalled

with ending_imports():  # which take seconds
    import hydra
    from hydra._internal.utils import get_args_parser
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from discrete_ae import training
    from discrete_ae.cli import begin_in_utf8, let_go_of_stdout
    from discrete_ae.cli.folders import NewFolder
    from discrete_ae.cli.hydra_errors import explained
    from discrete_ae.cli.overrides import CONFIG_DIR, MAIN_CONFIG, as_meant, as_setting, register_run_name
    from discrete_ae.cli.sweep import ReportSweep, earlier, forget_failure, logged_once, note_failure, varied
    from discrete_ae.errors import DataError, UsageError, UserError, from_system
    from discrete_ae.paths import shown, with_home
    from discrete_ae.training.ending import end_with_parent, is_first_process, kill_left, lost_process, say_once

# A job in its own process only imports this module before its folder is named, so the resolver is registered here.
register_run_name()


def main(arguments: list[str] | None = None) -> None:
    """Train with these arguments, by default the arguments of this process.

    Exit with the highest status of any failed job.
    """
    if arguments is None:
        begin_in_utf8()
    arguments = list(map(with_home, sys.argv[1:] if arguments is None else arguments))
    if os.environ.get("LOCAL_RANK", "0") != "0":  # started by another process of the run
        end_with_parent()
    try:
        with exiting_on_sigterm():
            statuses = _jobs(arguments)
        print(end="", flush=True)  # at exit, Python might not report that it failed
    except (KeyboardInterrupt, SystemExit) as ended:
        if (status := signalled(ended)) is None:
            raise
        say_once(SIGNALLED[status])
        kill_left()
        sys.exit(status)
    except UserError as error:
        sys.exit(_report(error))
    except OSError as error:
        let_go_of_stdout(error)
        if isinstance(error, BrokenPipeError):  # the reader of stdout has ended, as in `train.py --help | head`
            sys.exit(1)
        sys.exit(_report(from_system(error, ReportSweep.folder)))
    finally:
        NewFolder.remove_empty()
    # Jobs in other processes only write their failures into their folders; ReportSweep counts those.
    sys.exit(max([*statuses, DataError.exit_status if ReportSweep.failed else 0]))


def _jobs(arguments: list[str]) -> list[int]:
    """Run one job, or all jobs of a multirun, and return the exit statuses of jobs that failed in this process."""
    statuses: list[int] = []
    ReportSweep.failed, ReportSweep.folder, ReportSweep.told = 0, None, set()

    @hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=MAIN_CONFIG)
    def job(config: DictConfig) -> float:
        """Return the lowest val/reconstruction, which sweepers that search minimize; NaN for a failed run."""
        # A failure is recorded, not raised: other jobs of a multirun continue, and user errors print no traceback.
        is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            return _run(config, is_sweep=is_sweep)
        except Exception as error:
            if status := signalled(error):
                sys.exit(status)
            failure = _failure(error)
            if failure is None:
                say_once(traceback.format_exc().rstrip())
                failure = DataError(f"{type(error).__name__}: {error}")
                if not is_sweep:
                    sys.exit(failure.exit_status)
        statuses.append(_report(failure))
        if is_sweep:
            note_failure(Path(HydraConfig.get().runtime.output_dir), failure)
        return math.nan

    given = _parsed(arguments)
    if not (given.help or given.hydra_help or given.cfg or given.info or given.shell_completion):  # these only print
        _import_training()
    # DDP starts its processes with sys.argv, so sys.argv must run the same job, whichever command was used.
    flags = [argument for argument in arguments if argument not in given.overrides]  # Hydra requires flags first
    sys.argv = [__file__, *flags, *as_meant(given.overrides, multirun=given.multirun)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra hides the origin of an exception
    try:
        job()
    except SystemExit as ended:  # by Hydra with 0 after --help
        if ended.code:
            raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise explained(error, CONFIG_DIR, multirun=given.multirun) from error
    return statuses


def _import_training() -> None:
    """Import the training code early, when an interrupted import leaves nothing to clean up."""
    with ending_imports():  # which takes seconds
        import_module("discrete_ae.training.run")


def _run(config: DictConfig, *, is_sweep: bool) -> float:
    _import_training()  # for a process that a launcher started for the job
    config = training.typed_config(config)
    run_dir = Path(config.run_dir)
    before = earlier(config) if is_sweep else None
    if not is_sweep and (params := HydraConfig.get().sweeper.get("params")):
        raise UsageError(f"this varies {', '.join(params)}: add -m for one run each")
    forget_failure(run_dir)
    if before:
        checkpoint, objective = before
        if is_first_process():
            print(f"{'resuming' if objective is None else 'finished already'}: {shown(run_dir)}")
        if objective is not None:
            return objective
        config.ckpt_path = str(checkpoint)
    told = ReportSweep.told if is_sweep else None
    with nullcontext() if told is None else logged_once(told):
        run = training.train(config, varied(config, HydraConfig.get()), told)
    ReportSweep.trained = run.share_trained
    if run.ended_by:
        if run.trainer.is_global_zero:
            sweep_dir = Path(HydraConfig.get().sweep.dir)
            last = f"ckpt_path={shown(run_dir / 'checkpoints' / 'last.ckpt')}"
            given = f"hydra.sweep.dir={shown(sweep_dir)}" if is_sweep else last
            print(f"  to resume: the same command with {shlex.quote(given)}")
        raise SystemExit(128 + run.ended_by)  # no other job starts
    return run.objective


def _parsed(arguments: list[str]) -> Namespace:
    """Parse Hydra's flags and the overrides, in any order."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")

    parser.error = refuse  # type: ignore[method-assign]
    given, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise as_setting(unknown[0], arguments)
    return given


def _report(error: UserError) -> int:
    say_once(f"error: {error}")
    return error.exit_status


def _failure(error: Exception) -> UserError | None:
    """Convert an error to a `UserError`; return None for a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OmegaConfBaseException):
        return explained(error, CONFIG_DIR)
    if isinstance(error, OSError) and error.filename is not None:
        return from_system(error)
    # PyTorch's class for a GPU, Python's, and a RuntimeError of PyTorch on a CPU.
    if type(error).__name__.endswith("MemoryError") or "DefaultCPUAllocator" in str(error):
        said = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        return DataError(f"out of memory ({said}); use a smaller data.batch_size, data.crop_seconds, or model")
    return lost_process(error)


if __name__ == "__main__":
    main()
