"""Networks on many windows: as fast as the machine, and on a CPU with bits that depend on the window alone.

The order in which a matrix product or a convolution sums up follows the shape of its input and the number of threads,
and another order gives other last bits, now and then another code. On a CPU, therefore, each window is computed by
itself and on one thread, and the cores work on several windows at a time: which is also what is fastest.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

MAX_JOBS = 16

Tag = TypeVar("Tag")


class Runner(NamedTuple):
    """How windows are computed.

    Args:
        jobs: windows computed at a time on a CPU, each on a thread of its own; None is as many as PyTorch has threads,
            at most 16. Memory grows with them.
        batch_size: windows computed together on a GPU.
        deterministic: on a GPU compute each window by itself, with algorithms that give the same bits every time.
    """

    jobs: int | None = None
    batch_size: int = 16
    deterministic: bool = False

    def map(
        self, network: nn.Module, function: Callable[[Tensor], Tensor], windows: Iterable[tuple[Tag, Tensor | None]]
    ) -> Iterator[tuple[Tag, Tensor | None]]:
        """Apply a function of the network to windows, each with a tag of the caller's, in their order.

        Args:
            network: whose parameters tell the device; it is in evaluation mode meanwhile.
            function: windows (B, ...) of one shape to results (B, ...), on the network's device.
            windows: tags and windows (...) on the CPU; what has no window passes through.

        Returns:
            The tags with the results (...), on the network's device, without gradient.
        """
        device = next(network.parameters()).device
        with _ready(network, device, self.deterministic):
            if device.type == "cpu":
                yield from self._on_threads(function, windows)
            else:
                yield from self._in_batches(function, windows, device)

    def _on_threads(
        self, function: Callable[[Tensor], Tensor], windows: Iterable[tuple[Tag, Tensor | None]]
    ) -> Iterator[tuple[Tag, Tensor | None]]:
        threads = torch.get_num_threads()
        jobs = self.jobs or min(threads, MAX_JOBS)
        # Here too, until all is done: threads that wait for the next small operation take the cores from the windows.
        torch.set_num_threads(1)
        pool = ThreadPoolExecutor(jobs, thread_name_prefix="window")
        pending: deque[tuple[Tag, Future[Tensor] | None]] = deque()
        try:
            for tag, window in windows:
                pending.append((tag, None if window is None else pool.submit(_on_one_thread, function, window)))
                while len(pending) > 2 * jobs:
                    yield _finished(*pending.popleft())
            while pending:
                yield _finished(*pending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    def _in_batches(
        self, function: Callable[[Tensor], Tensor], windows: Iterable[tuple[Tag, Tensor | None]], device: torch.device
    ) -> Iterator[tuple[Tag, Tensor | None]]:
        batch_size = 1 if self.deterministic else self.batch_size
        waiting: list[tuple[Tag, Tensor | None]] = []
        batch: list[Tensor] = []

        def computed() -> Iterator[tuple[Tag, Tensor | None]]:
            with torch.no_grad():
                results = iter(function(torch.stack(batch).to(device)) if batch else ())
            for tag, window in waiting:
                yield tag, None if window is None else next(results)
            waiting.clear()
            batch.clear()

        for tag, window in windows:
            if window is not None and batch and (len(batch) == batch_size or window.shape != batch[0].shape):
                yield from computed()
            waiting.append((tag, window))
            if window is not None:
                batch.append(window)
        yield from computed()


def _on_one_thread(function: Callable[[Tensor], Tensor], window: Tensor) -> Tensor:
    # For the calling thread alone, and every time: whoever sets it elsewhere sets it here too.
    torch.set_num_threads(1)
    with torch.no_grad():
        return function(window[None])[0]


def _finished(tag: Tag, result: Future[Tensor] | None) -> tuple[Tag, Tensor | None]:
    return tag, None if result is None else result.result()


@contextmanager
def _ready(network: nn.Module, device: torch.device, deterministic: bool) -> Iterator[None]:
    """In evaluation mode, with normalized weights computed once, and on a GPU in full float32."""
    modes: list[tuple[Any, bool]] = [(module, module.training) for module in network.modules() if module.training]
    with ExitStack() as stack:
        stack.enter_context(parametrize.cached())
        if device.type == "cuda":
            # TensorFloat-32 rounds the factors to 10 bits: far more codes would differ from those of a CPU.
            stack.enter_context(
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=deterministic, allow_tf32=False)
            )
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        network.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
