"""A training run, from a composed configuration to its checkpoints, and what it prints."""

import contextlib
import ctypes
import logging
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from discrete_ae.build import to_trust
from discrete_ae.data import AudioDataModule
from discrete_ae.data.workers import LoadingError, lost_worker
from discrete_ae.errors import DataError
from discrete_ae.paths import command, shown
from discrete_ae.training.complaints import complaint_of, lack_of_room
from discrete_ae.training.ending import take_along
from discrete_ae.training.folder import remove_run, take_folder
from discrete_ae.training.loggers import finish, quiet_writer
from discrete_ae.training.parts import TrainingRun, build_training, typed_config
from discrete_ae.training.settings import check_monitors

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = 2**31 - 1

log = logging.getLogger("discrete_ae")


def train(config: DictConfig, varied: Mapping[str, Any] | None = None) -> TrainingRun:
    """Make one run of a composed configuration, the whole of it, and print where it lies.

    A new run first validates the untrained model, at step 0; a continued one goes on where it was.

    Args:
        config: of conf/train.yaml, with its `run_dir` and `choices`.
        varied: settings by key, plain data, that tell the run from others, the most telling first.

    Raises:
        UsageError: for values that do not fit.
        DataError: for recordings or a checkpoint that cannot be used, a folder that holds another run, and where
            training diverges.
    """
    _quieten()
    keep_freed_memory()
    config = typed_config(config)
    run = build_training(config, {**(varied or {}), **config.choices})
    is_new = False
    try:
        if run.trainer.is_global_zero:
            text = OmegaConf.to_yaml(config, resolve=True)
            is_new = take_folder(run.run_dir, text, continued_from=config.ckpt_path, force=config.force)
            _say_what_runs(run, config.choices)
            if config.choices.quantizer == "rvq_pretrained" and not (config.init_from or config.ckpt_path):
                log.warning("quantizer=rvq_pretrained is for a trained network: give that of a run with init_from=")
        with quiet_writer():
            if not config.ckpt_path:
                run.trainer.validate(run.module, run.data, verbose=False)
                check_monitors(run.trainer)
            # Checkpoints hold plain data only, and are read as such.
            run.trainer.fit(run.module, run.data, ckpt_path=config.ckpt_path, weights_only=True)
        run.trainer.strategy.barrier()  # the first process to end would end those that it started
    except BaseException as error:
        if isinstance(error, Exception):  # where a validation fails, Lightning lets the processes that load crops wait
            run.trainer.fit_loop.teardown()
        if is_new and run.trainer.global_step <= run.first_step:  # the same command, mended, may have the folder
            with contextlib.suppress(OSError):
                remove_run(run.run_dir)
        if failure := error if isinstance(error, LoadingError) else lost_worker(error):
            raise DataError(f"{failure}; {_what_is_safe(run, config.ckpt_path)}") from error
        if complaint := complaint_of(error):
            raise complaint from error
        # Loading processes hand over batches in shared memory.
        places = [str(run.run_dir), *(["/dev/shm"] if config.data.get("num_workers") else [])]
        if lack := lack_of_room(error, " or ".join(places)):
            raise DataError(f"{lack}; {_what_is_safe(run, config.ckpt_path)}") from error
        raise
    finally:
        finish(run.trainer.loggers)
        take_along(run.trainer)
    if run.trainer.is_global_zero:
        _say_what_next(run, config.ckpt_path)
    return run


def keep_freed_memory() -> None:
    """Let this process use freed memory again instead of giving every large block back to the system.

    By default glibc maps each block of more than some MiB anew, and the system clears every page of it at the first
    touch: an eighth to a fifth of a step of large convolutions, for 5 % less memory (benchmarks/NOTES.md). Nothing
    happens where the C library is another.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)


def _say_what_runs(run: TrainingRun, chosen: Mapping[str, str]) -> None:
    model = run.module.model
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    rate = f"{model.bitrate_bps / 1000:.2f} kbps" if model.quantizer.num_codebooks else "no codes"
    print(f"{chosen['quantizer']} · {chosen['model']} · {millions:.1f} M parameters · {rate}")
    if isinstance(run.data, AudioDataModule):
        print(f"recordings: {run.data.describe()}")
    else:
        print(f"data: {type(run.data).__name__}")
    print(f"run folder: {run.run_dir}")
    if run.module.compiled:
        print("compiling at the first step, which takes a minute or so")


def _say_what_next(run: TrainingRun, begun_from: str | None) -> None:
    step, max_steps = run.trainer.global_step, run.trainer.max_steps
    if step == run.first_step:
        print(f"\nnothing was trained: the run is at step {step}, and trainer.max_steps={max_steps}")
    if name := getattr(cast(Any, run.trainer).profiler, "filename", None):
        print(f"\nprofile: {', '.join(sorted(str(shown(path)) for path in run.run_dir.glob(f'*{name}*')))}")
    known = _checkpoints(run, begun_from, "best.ckpt", "last.ckpt")
    print(f"\ncheckpoint: {shown(known[0]) if known else 'none was written'}\nnext:")
    print(" ", shlex.join([command("tensorboard"), "--logdir", str(shown(run.run_dir).parent)]))
    if known:
        files = run.data.validation_files if isinstance(run.data, AudioDataModule) else []
        folders = (str(shown(file.path.parent)) for file in files if file.is_file)
        does = ["encode", "-o", "codes"] if run.module.model.quantizer.num_codebooks else ["evaluate"]
        use = [command("discrete-ae"), does[0], next(folders, "RECORDINGS"), *does[1:], "-c", str(shown(known[0]))]
        print(" ", shlex.join([*use, *(f"--trust={name}" for name in to_trust(run.module.model_config))]))


def _what_is_safe(run: TrainingRun, begun_from: str | None) -> str:
    """Say how the run goes on that a full disk, or the like, has ended."""
    if known := _checkpoints(run, begun_from, "last.ckpt", "best.ckpt"):
        return f"to resume: ckpt_path={shown(known[0])}"
    if run.trainer.global_step <= run.first_step:
        return "nothing was trained yet"
    return "there is no checkpoint yet; a run that begins anew in the same folder wants force=true"


def _checkpoints(run: TrainingRun, begun_from: str | None, *names: str) -> list[Path]:
    """List those of these names that the run has written, which may be none, and the one that it began from."""
    written = (run.run_dir / "checkpoints" / name for name in names)
    return [path for path in (*written, *([Path(begun_from)] if begun_from else [])) if path.exists()]


def _quieten() -> None:
    """Keep from the user what Lightning says of itself, and what is so by design."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # their tables, where one is asked for
    for message in (
        ".*does not have many workers.*",  # on CPU the cores belong to the model
        ".*Checkpoint directory .* exists and is not empty.*",  # a continued run goes on in its own folder
        ".*The dirpath has changed from.*",  # or in a new one
        r".*module\(s\) in eval mode at the start of training.*",  # those that are frozen
        ".*smaller than the logging interval.*",
        ".*It is recommended to use .self.log.*sync_dist.*",  # what is logged is that of all ranks already
        ".*does not support code generation for complex operators.*",  # compile=true: FFTs stay as they are
        ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 with torch from 2.11 on
    ):
        warnings.filterwarnings("ignore", message=message)
