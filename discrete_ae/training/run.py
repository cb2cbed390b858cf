"""A training run, from a composed configuration to its checkpoints, and its messages."""

import contextlib
import ctypes
import logging
import math
import shlex
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from discrete_ae.build import to_trust
from discrete_ae.data import AudioDataModule
from discrete_ae.data.workers import LoadingError, lost_worker
from discrete_ae.durations import in_words
from discrete_ae.errors import DataError
from discrete_ae.paths import command, shown
from discrete_ae.training import reached
from discrete_ae.training.adversarial import AdversarialModule
from discrete_ae.training.complaints import complaint_of, lack_of_room
from discrete_ae.training.ending import take_along
from discrete_ae.training.folder import remove_run, take_folder
from discrete_ae.training.loggers import finish, quiet_writer
from discrete_ae.training.parts import TrainingRun, build_training, typed_config
from discrete_ae.training.settings import check_monitors

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = 2**31 - 1

log = logging.getLogger("discrete_ae")


def train(config: DictConfig, varied: Mapping[str, Any] | None = None, told: set[str] | None = None) -> TrainingRun:
    """Train one run of a composed configuration, from beginning to end, and print its folder and result.

    A new run first validates the untrained model, at step 0. A resumed run continues from its checkpoint.

    Args:
        config: configuration composed from conf/train.yaml, with its `run_dir` and `choices`.
        varied: settings by key that distinguish the run from others, as plain data; the most important come first.
        told: for a run of a sweep, lines that its earlier runs have printed, which are not repeated; the sweep prints
            the commands that come next. None for a single run.

    Raises:
        UsageError: settings are invalid or do not fit together.
        DataError: recordings or a checkpoint cannot be used, the folder holds another run, or training diverges.
    """
    began = time.monotonic()
    _quieten()
    keep_freed_memory()
    config = typed_config(config)
    run = build_training(config, {**(varied or {}), **config.choices})
    is_new = False
    first_loss = math.nan
    try:
        if run.trainer.is_global_zero:
            text = OmegaConf.to_yaml(config, resolve=True)
            is_new = take_folder(run.run_dir, text, continued_from=config.ckpt_path, force=config.force)
            _print_start(run, config.choices, told)
            if config.choices.quantizer == "rvq_pretrained" and not (config.init_from or config.ckpt_path):
                log.warning(
                    "quantizer=rvq_pretrained needs a trained network: give the checkpoint of a run by init_from="
                )
        with quiet_writer():
            if not config.ckpt_path:
                run.trainer.validate(run.module, run.data, verbose=False)
                check_monitors(run.trainer)
                first_loss = _validation_loss(run)
            # Checkpoints contain plain data only, so no pickled object is loaded.
            run.trainer.fit(run.module, run.data, ckpt_path=config.ckpt_path, weights_only=True)
        run.trainer.strategy.barrier()  # a process that ends also ends the processes that it started
    except BaseException as error:
        if isinstance(error, Exception):  # if a validation fails, Lightning leaves the worker processes waiting
            run.trainer.fit_loop.teardown()
        if is_new and run.trainer.global_step <= run.first_step:  # so the corrected command can use the folder
            with contextlib.suppress(OSError):
                remove_run(run.run_dir)
        if failure := error if isinstance(error, LoadingError) else lost_worker(error):
            raise DataError(f"{failure}; {_what_is_safe(run, config.ckpt_path)}") from error
        if complaint := complaint_of(error):
            raise complaint from error
        # Worker processes pass batches in shared memory.
        places = [str(run.run_dir), *(["/dev/shm"] if config.data.get("num_workers") else [])]
        if lack := lack_of_room(error, " or ".join(places)):
            raise DataError(f"{lack}; {_what_is_safe(run, config.ckpt_path)}") from error
        raise
    finally:
        finish(run.trainer.loggers)
        take_along(run.trainer)
    if run.trainer.is_global_zero:
        _print_result(run, config.ckpt_path, time.monotonic() - began, told)
        # Adversarial training trades reconstruction loss for sound.
        judged = not isinstance(run.module, AdversarialModule)
        if config.init_from and judged and _validation_loss(run) > first_loss:
            log.warning(
                "the validation loss was %.4f before this training and is %.4f now: on these recordings, the weights "
                "of init_from= are better",
                first_loss,
                _validation_loss(run),
            )
    return run


def _validation_loss(run: TrainingRun) -> float:
    """Return the reconstruction loss of the last validation; NaN if there is none."""
    return float(run.trainer.callback_metrics.get("val/reconstruction", math.nan))


def keep_freed_memory() -> None:
    """Let this process reuse freed memory instead of returning every large block to the system.

    By default glibc maps each block of more than some MiB anew, and the system clears its pages at the first access.
    The default takes an eighth to a fifth of a step with large convolutions, but saves 5 % of memory
    (benchmarks/NOTES.md).
    Other C libraries are left unchanged.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)


def _print_once(line: str, told: set[str] | None) -> None:
    """Print a line, in a sweep only if no earlier run has printed it."""
    if told is None or line not in told:
        print(line)
    if told is not None:
        told.add(line)


def _print_start(run: TrainingRun, chosen: Mapping[str, str], told: set[str] | None) -> None:
    """Print the model, the data and the folder of a run."""
    model = run.module.model
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    rate = f"{model.bitrate_bps / 1000:.2f} kbps" if model.quantizer.num_codebooks else "no codes"
    print(f"{chosen['quantizer']} · {chosen['model']} · {millions:.1f} M parameters · {rate}")
    if isinstance(run.data, AudioDataModule):
        _print_once(f"recordings: {run.data.describe()}", told)
    else:
        _print_once(f"data: {type(run.data).__name__}", told)
    print(f"run folder: {shown(run.run_dir)}")
    if run.trainer.max_steps > 0:
        _print_once(
            f"training to step {run.trainer.max_steps}; a lower reconstruction loss and a higher SI-SDR are better",
            told,
        )
    if run.module.compiled:
        print("compiling in the first step, which takes about a minute")


def _print_result(run: TrainingRun, begun_from: str | None, seconds: float, told: set[str] | None) -> None:
    """Print the quality that was reached, the checkpoint, and commands for what comes next."""
    step, max_steps = run.trainer.global_step, run.trainer.max_steps
    if step == run.first_step:
        print(f"\nnothing was trained: the run is at step {step}, and trainer.max_steps={max_steps}")
    elif lines := _quality(run, seconds):
        print("", *(lines if told is None else lines[:1]), sep="\n")
    if name := getattr(cast(Any, run.trainer).profiler, "filename", None):
        print(f"\nprofile: {', '.join(sorted(str(shown(path)) for path in run.run_dir.glob(f'*{name}*')))}")
    names = ("best.ckpt", "last.ckpt")  # the best has the lowest reconstruction loss
    known = _checkpoints(run, begun_from, *(reversed(names) if isinstance(run.module, AdversarialModule) else names))
    if told is None:
        print()
    print(f"checkpoint: {shown(known[0]) if known else 'none was written'}")
    if told is not None:
        return
    print("next:")
    print(" ", shlex.join([command("tensorboard"), "--logdir", str(shown(run.run_dir).parent)]))
    if known:
        files = run.data.validation_files if isinstance(run.data, AudioDataModule) else []
        folders = (str(shown(file.path.parent)) for file in files if file.is_file)
        does = ["encode", "-o", "codes"] if run.module.model.quantizer.num_codebooks else ["evaluate"]
        use = [command("discrete-ae"), does[0], next(folders, "RECORDINGS"), *does[1:], "-c", str(shown(known[0]))]
        print(" ", shlex.join([*use, *(f"--trust={name}" for name in to_trust(run.module.model_config))]))


def _quality(run: TrainingRun, seconds: float) -> list[str]:
    """Return lines on the quality at the last validation; none if SI-SDR was not measured or is undefined."""
    found = run.trainer.callback_metrics
    if isinstance(run.trainer.limit_train_batches, int) and "train/reconstruction" in found:  # debug=overfit
        return [
            f"reached: reconstruction {found['train/reconstruction']:.4f} on the batches that it trains on, "
            f"{found['val/reconstruction']:.4f} on validation recordings",
            "A model that can learn comes far lower on the former; the latter need not fall.",
        ]
    si_sdr_db, usage = (None if (value := found.get(f"val/{name}")) is None else float(value)
                        for name in ("si_sdr_db", "codes/usage"))  # fmt: skip
    if si_sdr_db is None or math.isnan(si_sdr_db):
        return []
    is_adversarial = isinstance(run.module, AdversarialModule)
    lines = [reached.in_words(si_sdr_db, usage, is_adversarial=is_adversarial, recordings=_validated(run))]
    if si_sdr_db < reached.USABLE_DB and not is_adversarial and not run.first_step:
        lines.append(
            f"This run took {in_words(seconds)}. For usable audio, train longer on more recordings: docs/training.md"
        )
    return lines


def _validated(run: TrainingRun) -> int | None:
    """Return the number of recordings of the last validation; None if it is unknown."""
    if not isinstance(run.data, AudioDataModule) or run.trainer.limit_val_batches != 1.0:
        return None
    return len({file.name for segments in run.data.validation_sets for file, _ in segments.segments})


def _what_is_safe(run: TrainingRun, begun_from: str | None) -> str:
    """Return advice on how to continue a run that a full disk or a similar fault has ended."""
    if known := _checkpoints(run, begun_from, "last.ckpt", "best.ckpt"):
        return f"to resume: ckpt_path={shown(known[0])}"
    if run.trainer.global_step <= run.first_step:
        return "nothing was trained yet"
    return "there is no checkpoint yet; to start again in the same folder, add force=true"


def _checkpoints(run: TrainingRun, begun_from: str | None, *names: str) -> list[Path]:
    """List the checkpoints of these names that exist, then the checkpoint that the run began from."""
    written = (run.run_dir / "checkpoints" / name for name in names)
    return [path for path in (*written, *([Path(begun_from)] if begun_from else [])) if path.exists()]


def _quieten() -> None:
    """Silence Lightning's messages about itself, and warnings about deliberate choices."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # the tables of a requested profiler
    for message in (
        ".*does not have many workers.*",  # on a CPU, the model needs the cores
        ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run continues in its own folder
        ".*The dirpath has changed from.*",  # or in a new folder
        r".*module\(s\) in eval mode at the start of training.*",  # frozen parts of the model
        ".*smaller than the logging interval.*",
        ".*It is recommended to use .self.log.*sync_dist.*",  # logged values are means over all ranks already
        ".*does not support code generation for complex operators.*",  # compile=true leaves FFTs uncompiled
        ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 with torch 2.11 or newer
    ):
        warnings.filterwarnings("ignore", message=message)
