"""The folder of a run, which holds one run only."""

from pathlib import Path

from discrete_ae.errors import DataError
from discrete_ae.paths import CONFIG_NAME, shown
from discrete_ae.saving.checkpoint import UNSAVED, has_checkpoints
from discrete_ae.writing import write_whole

_OF_A_RUN = (CONFIG_NAME, "checkpoints/*.ckpt", "events.out.tfevents.*")


def take_folder(run_dir: Path, config: str, *, continued_from: str | None = None, force: bool = False) -> bool:
    """Claim a folder by writing the run's configuration into it; return False if the run resumes there, else True.

    Args:
        run_dir: the folder; created if missing.
        config: text of the configuration.
        continued_from: the checkpoint that the run resumes from, if any.
        force: True to remove a run that the folder holds already.

    Raises:
        DataError: the folder holds a run that is neither resumed nor, with `force`, replaced.
        OSError: the configuration cannot be written; no partial file is left.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    is_continued = bool(continued_from) and Path(str(continued_from)).resolve().is_relative_to(run_dir.resolve())
    if force and not is_continued:
        remove_run(run_dir)
    elif not is_continued and any(any(run_dir.glob(pattern)) for pattern in _OF_A_RUN):
        raise _held(run_dir)
    target = run_dir / CONFIG_NAME
    if is_continued:
        write_whole(target, config.encode())
        return False
    try:
        with target.open("xb") as file:
            file.write(config.encode())
    except FileExistsError as error:  # another run started at the same time
        raise _held(run_dir) from error
    except OSError:
        target.unlink(missing_ok=True)
        raise
    return True


def _held(run_dir: Path) -> DataError:
    """Return the error for a folder that already holds a run; its message suggests what to do."""
    last = run_dir / "checkpoints" / "last.ckpt"
    state, more = "", ""
    if last.exists():
        more = f", or resume it with ckpt_path={shown(last)}"
    elif not has_checkpoints(run_dir):
        state = f", {UNSAVED}"
    return DataError(
        f"{shown(run_dir)}: already contains a run{state}; give another hydra.run.dir, or replace it with "
        f"force=true{more}"
    )


def remove_run(run_dir: Path) -> None:
    """Remove the files of a run: configuration, checkpoints, TensorBoard events."""
    for pattern in _OF_A_RUN:
        for path in run_dir.glob(pattern):
            path.unlink()
