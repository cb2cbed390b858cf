"""Networks on many windows: as fast as the machine, and on a CPU with bits that depend on the window alone.

The order in which a matrix product or a convolution sums up follows the shape of its input and the number of threads,
and another order gives other last bits, now and then another code. On a CPU, therefore, each window is computed by
itself and on one thread, and the cores work on several windows at a time: which is also what is fastest.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, TypeVar

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
        """Apply a function of the network to windows, each with a tag of the caller's, and yield results in order.

        Until the last result is taken, or the iterator closed, the network is in evaluation mode, and the process has
        one thread for each operation and full float32 precision, without autocast. Several may run at a time, in
        threads of the caller's; other code should not call torch.set_num_threads meanwhile: it affects all threads.

        Args:
            network: whose parameters tell the device.
            function: windows (B, ...) of one shape to results (B, ...), on the network's device.
            windows: tags and windows (...) on the CPU; a tag without a window passes through.

        Yields:
            The tags with the results (...), on the network's device, without gradient.
        """
        device = next(network.parameters()).device
        with _PROCESS.prepared(network, self.deterministic):
            if device.type == "cpu":
                yield from self._on_threads(function, windows)
            else:
                yield from self._in_batches(function, windows, device)

    def _on_threads(
        self, function: Callable[[Tensor], Tensor], windows: Iterable[tuple[Tag, Tensor | None]]
    ) -> Iterator[tuple[Tag, Tensor | None]]:
        jobs = self.jobs or min(_PROCESS.threads, MAX_JOBS)
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

    def _in_batches(
        self, function: Callable[[Tensor], Tensor], windows: Iterable[tuple[Tag, Tensor | None]], device: torch.device
    ) -> Iterator[tuple[Tag, Tensor | None]]:
        batch_size = 1 if self.deterministic else self.batch_size
        waiting: list[tuple[Tag, Tensor | None]] = []
        batch: list[Tensor] = []

        def computed() -> Iterator[tuple[Tag, Tensor | None]]:
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
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
    torch.set_num_threads(1)  # for the calling thread alone, which has no autocast either
    with torch.no_grad():
        return function(window[None])[0]


def _finished(tag: Tag, result: Future[Tensor] | None) -> tuple[Tag, Tensor | None]:
    return tag, None if result is None else result.result()


class _Process:
    """The switches of the whole process while windows are computed: the first runner sets them, the last resets them.

    Runners may overlap in any order, since their results are taken by generators.
    """

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._users: Counter[nn.Module | None] = Counter()
        self._modes: dict[nn.Module, list[nn.Module]] = {}

    @contextmanager
    def prepared(self, network: nn.Module, deterministic: bool) -> Iterator[None]:
        """Set the network to evaluation mode, and the process to full float32 and one thread for each operation."""
        with self._lock:
            if not self._users[None]:
                self._set(deterministic)
            if not self._users[network]:
                self._modes[network] = [module for module in network.modules() if module.training]
                network.eval()
            self._users.update((None, network))
        try:
            yield
        finally:
            with self._lock:
                self._users.subtract((None, network))
                if not self._users[network]:
                    del self._users[network]
                    for module in self._modes.pop(network):
                        module.training = True  # not network.train(): a part may have been frozen in evaluation mode
                if not self._users[None]:
                    self._stack.close()

    def _set(self, deterministic: bool) -> None:
        self._stack = ExitStack()
        self.threads = torch.get_num_threads()
        self._stack.callback(torch.set_num_threads, self.threads)
        # In all threads: those that wait for the next small operation would take the cores from the windows.
        torch.set_num_threads(1)
        # TensorFloat-32 rounds the factors to 10 bits: far more codes would differ from those of a CPU, whose own
        # matrix products "medium" makes coarser.
        self._stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        self._stack.enter_context(
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=deterministic, allow_tf32=False)
        )
        self._stack.enter_context(parametrize.cached())  # normalized weights are computed once


_PROCESS = _Process()
