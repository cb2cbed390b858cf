"""Errors of Lightning, PyTorch and the system that end a training, in the words of a user."""

import traceback

from lightning.fabric.utilities.exceptions import MisconfigurationException

from discrete_ae.errors import UsageError, from_system


def complaint_of(error: BaseException | None) -> UsageError | None:
    """Return what Lightning, or a schedule of PyTorch, has to say to its user; None for any other error.

    Not all that Lightning says is a MisconfigurationException: what its own code raises is meant for the user too.
    """
    frames = list(traceback.walk_tb(error.__traceback__)) if error else []
    raised_in = str(frames[-1][0].f_globals.get("__name__")) if frames else ""
    said = " ".join(str(error).split())
    if isinstance(error, MisconfigurationException) or (
        type(error) in (RuntimeError, ValueError)
        and raised_in.startswith("lightning.")
        and not isinstance(getattr(error, "__cause__", None), OSError)
    ):
        return UsageError(f"Lightning says: {said}")
    if isinstance(error, Exception) and raised_in == "torch.optim.lr_scheduler":
        return UsageError(
            f"optim.scheduler: {type(error).__name__}: {said}; a continued run wants the scheduler that it began with, "
            "and one that was made for a number of steps does not go on beyond; init_from= starts anew"
        )
    return None


def lack_of_room(error: BaseException, places: str) -> str:
    """Return what could not be written in `places`, and why; "" for an error of another kind."""
    # Lightning's TensorBoard logger raises a ValueError of every error.
    broken = error.__cause__ if isinstance(error, ValueError) else error
    if isinstance(broken, OSError):
        return str(from_system(broken, places))
    if isinstance(error, RuntimeError) and "shared memory" in str(error):  # PyTorch's words
        return "/dev/shm: no room for batches of loading processes; make it larger, or use data.num_workers=0"
    return ""
