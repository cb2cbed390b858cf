"""User-facing messages for errors of Lightning, PyTorch and the operating system that end a training run."""

import traceback

from lightning.fabric.utilities.exceptions import MisconfigurationException

from discrete_ae.errors import UsageError, from_system


def complaint_of(error: BaseException | None) -> UsageError | None:
    """Return the UsageError for an error that Lightning or a PyTorch scheduler raised; None for any other error.

    Lightning reports misuse with plain RuntimeErrors and ValueErrors as well as with MisconfigurationException.
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
            f"optim.scheduler: {type(error).__name__}: {said}; a resumed run needs its original scheduler, and a "
            "scheduler with a fixed number of steps cannot run past them; init_from= starts a new run"
        )
    return None


def lack_of_room(error: BaseException, places: str) -> str:
    """Return a message about a failed write in `places`; "" if the error is not a failed write."""
    # Lightning's TensorBoard logger wraps every error in a ValueError.
    broken = error.__cause__ if isinstance(error, ValueError) else error
    if isinstance(broken, OSError):
        return str(from_system(broken, places))
    if isinstance(error, RuntimeError) and "shared memory" in str(error):  # PyTorch's words
        return "/dev/shm: no room for batches of worker processes; make it larger, or use data.num_workers=0"
    return ""
