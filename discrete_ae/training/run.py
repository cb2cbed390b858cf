"""A training run, from a composed configuration to its checkpoints. Beside cli/ the only code that knows Hydra."""

import contextlib
import ctypes
import logging
import math
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Checkpoint, StochasticWeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf
from pydantic import AfterValidator, Field

from discrete_ae.arguments import typed
from discrete_ae.build import PACKAGE, build_model, check_components, read_saved, to_trust
from discrete_ae.data import AudioDataModule
from discrete_ae.errors import DataError, UsageError, UserError
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.paths import command, shown, with_home
from discrete_ae.quantizers import Quantizer
from discrete_ae.saving.checkpoint import read_training_state
from discrete_ae.training.adversarial import AdversarialModule
from discrete_ae.training.callbacks import LogHyperparameters, StopOnInterrupt
from discrete_ae.training.callbacks.checkpoints import WholeCheckpoints
from discrete_ae.training.compiled import compiler, require_compiler
from discrete_ae.training.complaints import complaint_of, lack_of_room
from discrete_ae.training.ending import take_along
from discrete_ae.training.folder import remove_run, take_folder
from discrete_ae.training.loggers import finish, quiet_writer
from discrete_ae.training.module import AutoencoderModule

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = 2**31 - 1
USUAL = ("seed", "num_codebooks", "optim.optimizer.lr", "data.batch_size", "data.crop_seconds", "trainer.max_steps")
"""What is logged as a hyperparameter of every run, beside its choices and its quantizer's settings."""

Hyperparameters = dict[str, str | float | bool]

log = logging.getLogger("discrete_ae")


def _seed(value: int) -> int:
    if not 0 <= value < 2**32:
        raise ValueError(f"expected a whole number from 0 to {2**32 - 1}, got {value}")
    return value


# What is no component's argument, or is narrower here than there.
SETTINGS: dict[str, Any] = {
    "name": str,
    "seed": Annotated[int, AfterValidator(_seed)],
    "num_codebooks": int,
    "ckpt_path": Annotated[str, AfterValidator(with_home)] | None,
    "init_from": Annotated[str, AfterValidator(with_home)] | None,
    "compile": bool,
    "force": bool,
    "float32_matmul_precision": Literal["highest", "high", "medium"],
    "run_dir": str,
    "choices": Mapping[str, str],
    "logger.wandb.group": str,
    # Not Lightning's times either: each process has its own clock, so processes would not validate at the same step.
    "trainer.val_check_interval": Annotated[int, Field(ge=1)],
    # Those in which weights and quantizer are in float32, with Lightning's other names for them.
    "trainer.precision": Literal["auto", "32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16", 32, 16],
}
"""Types by dotted key."""


@dataclass(frozen=True)
class TrainingRun:
    """The parts of a run."""

    module: AutoencoderModule
    data: AudioDataModule
    trainer: pl.Trainer
    run_dir: Path
    first_step: int
    """At which it begins: that of its checkpoint, or 0."""
    interrupt: StopOnInterrupt | None
    """Told of Ctrl-C and SIGTERM, where the configuration has it."""

    @property
    def objective(self) -> float:
        """The least val/reconstruction so far; NaN without a checkpoint that says."""
        found = getattr(self.trainer.checkpoint_callback, "best_model_score", None)
        return math.nan if found is None else float(found)

    @property
    def ended_by(self) -> int:
        """The number of the signal that ended the run; 0 for none."""
        return self.interrupt.ended_by if self.interrupt else 0


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
    run.data.setup("fit")
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
        if is_new and run.trainer.global_step <= run.first_step:  # the same command, mended, may have the folder
            with contextlib.suppress(OSError):
                remove_run(run.run_dir)
        if complaint := complaint_of(error):
            raise complaint from error
        # Loading processes hand over batches in shared memory.
        places = [str(run.run_dir), *(["/dev/shm"] if config.data.num_workers else [])]
        if lack := lack_of_room(error, " or ".join(places)):
            raise DataError(f"{lack}; {_what_is_safe(run, config.ckpt_path)}") from error
        raise
    finally:
        finish(run.trainer.loggers)
        take_along(run.trainer)
    if run.trainer.is_global_zero:
        _say_what_next(run, config.ckpt_path)
    return run


def typed_config(config: DictConfig) -> DictConfig:
    """Return a composed configuration, resolved, with every value in the type that is wanted of it.

    Raises:
        UsageError: for a value of another type, with its key; for a part of the model that is no component.
        OmegaConfBaseException: for a reference to what is not there.
    """
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    check_components(plain.get("model"))  # before the arguments that they take
    return OmegaConf.create(typed(plain, settings=SETTINGS))


def build_training(config: DictConfig, chosen: Mapping[str, Any] | None = None) -> TrainingRun:
    """Build the parts of a run of a composed configuration.

    Args:
        config: of conf/train.yaml, with its `run_dir`, as `typed_config` returns it.
        chosen: settings by key, which are logged as hyperparameters, the most telling first.

    Raises:
        UsageError: for values that do not fit.
        DataError: for a checkpoint that cannot be read.
    """
    check_run(config)
    pl.seed_everything(config.seed, verbose=False)
    if on_gpu(config):
        torch.set_float32_matmul_precision(config.float32_matmul_precision)
    model_config = cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=True))
    model = build_model(model_config, trust=None)
    check_codes_of(model.quantizer)
    if old := config.ckpt_path or config.init_from:
        _take_weights(model, old, new_quantizer=not config.ckpt_path)
    first_step = read_training_state(config.ckpt_path).global_step if config.ckpt_path else 0
    loss, data = _instantiate(config, "loss"), _instantiate(config, "data")
    for name in ("sample_rate", "channels"):
        if (given := getattr(data.settings, name)) != (wanted := getattr(model, name)):
            raise UsageError(f"data.{name}: expected the model's, {wanted}, got {given}; give the model another one")
    callbacks, loggers = _named(config, "callbacks"), _named(config, "logger")
    parts = {
        "model": model,
        "model_config": model_config,
        "loss": loss,
        "optimizer": _instantiate(config, "optim.optimizer"),
        "scheduler": _instantiate(config, "optim.scheduler"),
        "seed": config.seed,
        "compiled": compiler(cuda_graphs=uses_cuda_graphs(config)) if config.compile else None,
    }
    check_optimization(config, adversarial=loss.adversary is not None)
    check_lightning(config, callbacks)
    settings = {
        "precision": resolved_precision(config),
        "logger": list(loggers.values()),
        "callbacks": [*callbacks.values(), LogHyperparameters(_hyperparameters(config, model, chosen or {}))],
        "enable_progress_bar": False,  # the callbacks have one
        # Where the callbacks write no checkpoints, Lightning does not either.
        "enable_checkpointing": any(isinstance(each, Checkpoint) for each in callbacks.values()),
        "default_root_dir": config.run_dir,
    }
    module: AutoencoderModule
    if loss.adversary is None:
        module = AutoencoderModule(**parts)
    else:
        module = AdversarialModule(
            **parts,
            discriminator_optimizer=_instantiate(config, "optim.discriminator_optimizer"),
            gradient_clip_val=config.trainer.gradient_clip_val,
        )
        settings["gradient_clip_val"] = None  # where there are two optimizers, Lightning leaves it to the module
        if _is_ddp(config.trainer):
            # Each backward reaches one of the two networks, and DDP must not wait for gradients of the other.
            settings["strategy"] = "ddp_find_unused_parameters_true"
    trainer = _instantiate(config, "trainer", **settings)
    module.trainer = trainer
    module.configure_optimizers()  # what does not fit shows now, not after the first validation
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # no other one was asked for
        trainer.strategy.checkpoint_io = WholeCheckpoints()
    return TrainingRun(module, data, trainer, Path(config.run_dir), first_step, callbacks.get("interrupt"))


def check_run(config: Any) -> None:
    """Look for settings that do not go together, or not on this machine.

    Raises:
        UsageError: for the first of them.
    """
    if config.ckpt_path and config.init_from:
        raise UsageError("ckpt_path goes on with a run, init_from starts a new one: give one of them")
    if config.trainer.accelerator in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise UsageError("trainer: PyTorch finds no GPU here; use trainer=auto or trainer=cpu")
    if config.compile:
        require_compiler(for_gpu=on_gpu(config))


def check_optimization(config: Any, *, adversarial: bool) -> None:
    """Look for what the loss and the optimizer do not do together.

    Raises:
        UsageError: for a fused optimizer where the precision scales the loss; with two optimizers, for what Lightning
            does for one alone: a precision that scales the loss, and accumulated gradients.
    """
    scales_loss = str(config.trainer.precision) in ("16", "16-mixed")
    if scales_loss and config.optim.optimizer.get("fused"):
        raise UsageError(
            "trainer.precision=16-mixed scales the loss, and a fused optimizer undoes that only after the gradient is "
            "clipped; use trainer.precision=bf16-mixed, or optim.optimizer.fused=false"
        )
    if adversarial and scales_loss:
        raise UsageError(
            "trainer.precision: expected 32-true or bf16-mixed with an adversarial loss, got "
            f"{config.trainer.precision}"
        )
    if adversarial and (count := config.trainer.get("accumulate_grad_batches", 1)) != 1:
        raise UsageError(
            f"trainer.accumulate_grad_batches: expected 1 with an adversarial loss, got {count}; make data.batch_size "
            "larger instead"
        )


def check_lightning(config: Any, callbacks: Mapping[str, pl.Callback]) -> None:
    """Look for what Lightning offers and training here cannot use.

    Raises:
        UsageError: for processes that keep what they train to themselves, and for averages over epochs.
    """
    strategy = str(config.trainer.get("strategy"))
    if any(way in strategy for way in ("spawn", "fork", "notebook")):
        raise UsageError(f"trainer.strategy: {strategy} hands the model to new processes; use trainer.strategy=ddp")
    for name, callback in callbacks.items():
        if isinstance(callback, StochasticWeightAveraging):
            raise UsageError(
                f"callbacks.{name}: StochasticWeightAveraging counts epochs, of which training has none; average with "
                "callbacks.ema.decay=0.999"
            )


def check_codes_of(quantizer: Quantizer) -> None:
    """Try a quantizer on a few latents if it, or a part of it, is a user's own.

    Raises:
        UsageError: its codes are not those that it says it makes.
    """
    parts = (part for part in quantizer.modules() if isinstance(part, Quantizer))
    is_own = any(type(part).__module__.partition(".")[0] != PACKAGE for part in parts)
    if is_own and quantizer.num_codebooks:
        latents = torch.randn(1, quantizer.dim, 64, generator=torch.Generator().manual_seed(0))
        try:
            quantizer.check_codes(quantizer.encode(latents))
        except (ValueError, IndexError, RuntimeError) as error:
            raise UsageError(f"quantizer: {type(quantizer).__name__}: {' '.join(str(error).split())}") from error


def check_monitors(trainer: pl.Trainer) -> None:
    """Look, after a validation, if there was one, for callbacks that go by a metric of it which there is not.

    Raises:
        UsageError: for the first of them; Lightning would say so only after steps of training.
    """
    known = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if known and isinstance(monitor, str) and monitor.startswith("val") and monitor not in known:
            raise UsageError(
                f"{type(callback).__name__}: there is no {monitor} to monitor; expected one of {', '.join(known)}"
            )


def on_gpu(config: Any) -> bool:
    """Return whether the run will use an NVIDIA GPU."""
    return config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def uses_cuda_graphs(config: Any) -> bool:
    """Return whether compile=true may give a GPU its work as CUDA graphs.

    One GPU alone: how the gradients that a graph leaves in its own memory go with those that DDP sums is untried. And
    no accumulated gradients: a graph overwrites those of the batch before.
    """
    trainer = config.trainer
    is_single = trainer.devices in (1, "1") and trainer.get("num_nodes", 1) == 1
    return on_gpu(config) and is_single and trainer.get("accumulate_grad_batches", 1) == 1


def resolved_precision(config: Any) -> str:
    """Resolve the trainer's precision: "auto" is bf16 where a GPU will be used that has it."""
    if config.trainer.precision != "auto":
        return config.trainer.precision
    return "bf16-mixed" if on_gpu(config) and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


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


def _named(config: DictConfig, group: str) -> dict[str, Any]:
    """Build the components of a group by name, or the only one; those that are null are left out."""
    given = config.get(group) or {}
    if "_target_" in given:
        return {group: _instantiate(config, group)}
    names = [name for name, node in given.items() if node is not None]
    return {name: _instantiate(config, f"{group}.{name}") for name in names}


def _instantiate(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Build the component at a dotted key by Hydra; where it refuses, raise its own words."""
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise UsageError(f"{key}: expected a component with its _target_, got {node}")
    try:
        # Lists of Python: an optimizer keeps its betas as they are given, and checkpoints hold plain data.
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, ModuleNotFoundError) and "wandb" in str(cause):
            raise UsageError(f"{key}: wandb is not installed; pip install 'discrete-ae[wandb]'") from error
        if isinstance(cause, TypeError | ValueError | ImportError):
            raise UsageError(f"{key}: {' '.join(str(cause).split())}") from error
        if complaint := complaint_of(cause):
            raise UsageError(f"{key}: {complaint}") from error
        raise


def _is_ddp(trainer: DictConfig) -> bool:
    """Return whether Lightning will train by plain DistributedDataParallel."""
    strategy = trainer.get("strategy", "auto")
    return strategy == "ddp" or (strategy == "auto" and (trainer.devices != 1 or trainer.get("num_nodes", 1) != 1))


def _take_weights(model: DiscreteAutoencoder, path: str, *, new_quantizer: bool) -> None:
    """Load a checkpoint's weights; with `new_quantizer`, a quantizer whose tensors are others keeps its own."""
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("quantizer.")}
    state = read_saved(path).state
    saved = {name: tensor for name, tensor in state.items() if name.startswith("quantizer.")}
    shapes, saved_shapes = ({name: tensor.shape for name, tensor in part.items()} for part in (own, saved))
    anew = new_quantizer and shapes != saved_shapes
    try:
        model.load_state_dict({name: state[name] for name in state if name not in saved} | own if anew else state)
    except RuntimeError as error:
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        given = {name: tuple(tensor.shape) for name, tensor in state.items() if not (anew and name in saved)}
        other = [name for name in expected | given if expected.get(name) != given.get(name)]
        told = [f"{name} is {given.get(name, 'not there')}, not {expected.get(name, 'there')}" for name in other[:3]]
        raise DataError(
            f"{path}: its weights do not fit this model ({'; '.join(told)}; {len(other)} tensors in all); give the "
            "same model=, quantizer= and num_codebooks= as its run; init_from= may change the quantizer, but not the "
            "number of its channels"
        ) from error
    if anew:
        log.info("init_from: the quantizer starts anew, for %s was trained with another one", path)


def _hyperparameters(config: DictConfig, model: DiscreteAutoencoder, chosen: Mapping[str, Any]) -> Hyperparameters:
    """Collect what was chosen, and what is usual, flat and by the configuration's own keys."""
    found: Hyperparameters = {}

    def collect(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                collect(f"{key}.{name}", inner)
        elif key.endswith("._target_"):
            found.setdefault(key.removesuffix("._target_"), str(value).rpartition(".")[2])
        elif not key.endswith("._partial_"):
            found.setdefault(key, value if isinstance(value, bool | int | float | str) else str(value))

    for key, value in chosen.items():
        collect(key, value)
    collect("bitrate_nominal_bps", model.bitrate_bps)
    for key in USUAL:
        collect(key, OmegaConf.select(config, key))
    collect("quantizer", OmegaConf.to_container(config.model.quantizer, resolve=True))
    return found


def _say_what_runs(run: TrainingRun, chosen: Mapping[str, str]) -> None:
    model = run.module.model
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    rate = f"{model.bitrate_bps / 1000:.2f} kbps" if model.quantizer.num_codebooks else "no codes"
    print(f"{chosen['quantizer']} · {chosen['model']} · {millions:.1f} M parameters · {rate}")
    print(f"recordings: {run.data.describe()}")
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
        recordings = shown(Path(run.data.validation_files[0].path).parent)
        does = ["encode", "-o", "codes"] if run.module.model.quantizer.num_codebooks else ["evaluate"]
        use = [command("discrete-ae"), does[0], str(recordings), *does[1:], "-c", str(shown(known[0]))]
        print(" ", shlex.join([*use, *(f"--trust={name}" for name in to_trust(run.module.model_config))]))


def _what_is_safe(run: TrainingRun, begun_from: str | None) -> str:
    """Say how the run goes on that a full disk, or the like, has ended."""
    if known := _checkpoints(run, begun_from, "last.ckpt", "best.ckpt"):
        return f"{shown(known[0])} is whole; ckpt_path={shown(known[0])} goes on from it"
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
        ".*smaller than the logging interval.*",
        ".*It is recommended to use .self.log.*sync_dist.*",  # what is logged is that of all ranks already
        ".*does not support code generation for complex operators.*",  # compile=true: FFTs stay as they are
        ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 with torch from 2.11 on
    ):
        warnings.filterwarnings("ignore", message=message)
