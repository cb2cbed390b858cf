"""Apply a model to signals of any length, in windows: on all cores, with the same bits for the same signal.

A frame depends on a limited stretch of its signal. Frames far enough from the ends of a window are therefore the same
as if the whole signal were computed at once. The positions of the windows follow from the signal's length alone, never
from the parts in which the signal arrives. Window i begins at frame i S, and the last window ends with the signal. Each
layer sees silence before and after the signal. All windows have the same shape, so that the same arithmetic is done in
the same order. A signal shorter than a window is computed as a single window of the signal's length.

A causal model can compute a frame before the next frame arrives. Its windows are therefore computed in blocks of BLOCK
frames. Blocks begin at multiples of BLOCK frames of the signal and continue from the state of the previous block. An
incomplete block is padded with zeros. Its first frames have the same bits as in the complete block, since the same
arithmetic is done on the same numbers. `streaming` thus gives the codes of the whole signal, by construction.

The summation order of a matrix product or a convolution depends on the shape of the input and the number of threads.
Another order gives other last bits, and sometimes another code. On a CPU, therefore, each window is computed separately
and on one thread, and the cores work on several windows at a time. This is also the fastest way.
"""

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from discrete_ae.model import DiscreteAutoencoder, Span
from discrete_ae.model.base import State
from discrete_ae.quantizers.base import in_evaluation

MAX_JOBS = 16
# Longer windows repeat less work at their ends; shorter windows stay in the caches. Encoders on a CPU were fastest with
# these values.
LEAST_SECONDS = 2.0
LEAST_BY_OVERLAP = 16
BLOCK = 16
"""Frames per block. Longer blocks make whole signals faster and streaming slower (benchmarks/results/streaming.md)."""

Tag = TypeVar("Tag")


class Window(NamedTuple):
    """The windows of a network, in frames."""

    length: int
    """Length of each window."""
    before: int
    """Frames discarded at the beginning of a window, unless the signal begins there."""
    after: int
    """Frames discarded at the end of a window, unless the signal ends there."""
    grid: int = 1
    """Every window begins at a multiple of this number."""

    @property
    def step(self) -> int:
        """S, the distance between the beginnings of adjacent windows."""
        return self.length - self.before - self.after


def encoder_window(model: DiscreteAutoencoder) -> Window:
    """Return the windows in which a model encodes audio."""
    hop = model.hop_length
    span = model.encoder.input_span(Span(0, 0))
    grid = BLOCK if model.is_causal else 1
    return _reaching(model, math.ceil(-span.first / hop), math.ceil((span.last + 1) / hop) - 1, grid)


def decoder_window(model: DiscreteAutoencoder) -> Window:
    """Return the windows in which a model decodes codes."""
    span = model.decoder.input_span(Span(0, model.hop_length - 1))
    return _reaching(model, -span.first, span.last)


def _reaching(model: DiscreteAutoencoder, before: int, after: int, grid: int = 1) -> Window:
    """Return the windows of a network whose frames depend on `before` earlier and `after` later frames."""
    least = math.ceil(LEAST_SECONDS * model.frame_rate_hz)
    before = grid * math.ceil(before / grid)
    return Window(grid * math.ceil(max(least, LEAST_BY_OVERLAP * (before + after)) / grid), before, after, grid)


def runner_of(
    model: DiscreteAutoencoder, jobs: int | None = None, batch_seconds: float = 120.0, deterministic: bool = False
) -> "Runner":
    """Return a runner that computes about `batch_seconds` of audio at once on a GPU; see `Runner`."""
    batch_size = max(1, round(batch_seconds * model.frame_rate_hz / encoder_window(model).length))
    return Runner(jobs, batch_size, deterministic)


def window_codes(model: DiscreteAutoencoder, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
    """Return codes (B, K, T) of windows of audio (B, C, T hop_length).

    Frames with NaN or infinite latents have the codes -1.
    """
    if not model.is_causal or audio.device.type != "cpu":  # a GPU computes whole windows
        return _codes_of(model, model.latents(audio), num_codebooks)
    size = BLOCK * model.hop_length
    missing = -audio.shape[-1] % size
    found, state = [], None
    for block in F.pad(audio, (0, missing)).split(size, dim=-1):
        codes, state = block_codes(model, block.clone(), state, num_codebooks)
        found.append(codes)
    return torch.cat(found, dim=-1)[..., : audio.shape[-1] // model.hop_length]


def block_codes(
    model: DiscreteAutoencoder, block: Tensor, state: State, num_codebooks: int | None = None
) -> tuple[Tensor, State]:
    """Return the codes of the next block of audio, as `window_codes` does, and the state after the block."""
    latents, state = model.latents_step(block, state)
    return _codes_of(model, latents, num_codebooks), state


def _codes_of(model: DiscreteAutoencoder, latents: Tensor, num_codebooks: int | None) -> Tensor:
    codes = model.quantizer.encode(latents, num_codebooks)
    return codes.masked_fill(~latents.isfinite().all(dim=1, keepdim=True), -1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch operations on one thread within this context."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def as_a_window(model: DiscreteAutoencoder) -> Iterator[None]:
    """Compute in the calling thread with the same bits as in a window: evaluation mode, one thread, full float32."""
    device = next(model.parameters()).device
    with _PROCESS.prepared(model, False), torch.no_grad(), torch.autocast(device.type, enabled=False), one_thread():
        yield


class Piece(NamedTuple):
    """One window of a signal."""

    signal: Tensor
    """Samples or codes (..., frames x unit)."""
    first: int
    """First frame whose result is used, counted from the window's beginning."""
    stop: int
    """Frame after the last frame whose result is used."""


class Cutter:
    """Cutter of a signal into windows; the signal may arrive in parts of any length.

    Args:
        window: lengths in frames.
        unit: number of elements per frame in the signal's last axis: the hop for audio, 1 for codes.
    """

    def __init__(self, window: Window, unit: int) -> None:
        self.window = window
        self.unit = unit
        self._rest: Tensor | None = None  # part of the signal from frame `_begin` on
        self._begin = 0
        self._next = 0  # frame where the next window begins
        self._done = 0  # number of frames whose results come from earlier windows

    def push(self, part: Tensor) -> Iterator[Piece]:
        """Take the next part (..., n) of the signal; yield complete windows, except the last window of the signal."""
        rest = part if self._rest is None else torch.cat([self._rest, part], dim=-1)
        # A window is known not to be the last only once the signal continues after it.
        while rest.shape[-1] > (self._next - self._begin + self.window.length) * self.unit:
            stop = self._next + self.window.length - self.window.after
            yield self._piece(rest, self._next, self.window.length, stop)
            # The last window may begin before frame `_next`, but not before this window.
            rest = rest[..., (self._next - self._begin) * self.unit :]
            self._begin = self._next
            self._next += self.window.step
        self._rest = rest

    def finish(self) -> Iterator[Piece]:
        """End the signal, pad its last frame with zeros, and yield the last window; an empty signal has none."""
        if self._rest is None:
            return
        rest = F.pad(self._rest, (0, -self._rest.shape[-1] % self.unit))
        end = self._begin + rest.shape[-1] // self.unit
        if end > self._done:
            grid = self.window.grid
            first = grid * math.ceil(max(0, end - self.window.length) / grid)
            yield self._piece(rest, first, end - first, end)

    def _piece(self, rest: Tensor, first: int, length: int, stop: int) -> Piece:
        start = (first - self._begin) * self.unit
        piece = Piece(rest[..., start : start + length * self.unit].clone(), self._done - first, stop - first)
        self._done = stop
        return piece


class Runner(NamedTuple):
    """Runner that computes several windows at a time.

    Args:
        jobs: number of windows computed at a time on a CPU, each on its own thread; None for the number of PyTorch's
            threads, at most 16. Memory grows with the number of jobs.
        batch_size: number of windows computed together on a GPU.
        deterministic: whether a GPU computes each window separately, with algorithms that always give the same bits.
    """

    jobs: int | None = None
    batch_size: int = 16
    deterministic: bool = False

    def map(
        self, network: nn.Module, function: Callable[[Tensor], Tensor], windows: Iterable[tuple[Tag, Tensor | None]]
    ) -> Iterator[tuple[Tag, Tensor | None]]:
        """Apply a function of the network to windows, and yield the results in order, each with the caller's tag.

        Until the last result is taken or the iterator is closed, the network is in evaluation mode. The process then
        computes each operation on one thread, in full float32, without autocast. Several iterators may run at a time,
        in different threads. Other code should not call torch.set_num_threads meanwhile: it affects all threads.

        Args:
            network: module whose parameters are on the device to use.
            function: function from windows (B, ...) of one shape to results (B, ...), on the network's device.
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
    torch.set_num_threads(1)  # a setting of this thread; so is autocast, which is off here
    with torch.no_grad():
        return function(window[None])[0]


def _finished(tag: Tag, result: Future[Tensor] | None) -> tuple[Tag, Tensor | None]:
    return tag, None if result is None else result.result()


class _Process:
    """Settings of the whole process while windows are computed: the first runner sets them, the last restores them.

    Runners are generators, so they may overlap in any order.
    """

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._users: Counter[nn.Module | None] = Counter()
        self._modes: dict[nn.Module, ExitStack] = {}

    @contextmanager
    def prepared(self, network: nn.Module, deterministic: bool) -> Iterator[None]:
        """Set the network to evaluation mode, and the process to full float32 and one thread per operation."""
        with self._lock:
            if not self._users[None]:
                self._set(deterministic)
            if not self._users[network]:
                self._modes[network] = ExitStack()
                self._modes[network].enter_context(in_evaluation(network))
            self._users.update((None, network))
        try:
            yield
        finally:
            with self._lock:
                self._users.subtract((None, network))
                if not self._users[network]:
                    del self._users[network]
                    self._modes.pop(network).close()
                if not self._users[None]:
                    self._stack.close()

    def _set(self, deterministic: bool) -> None:
        self._stack = ExitStack()
        self.threads = torch.get_num_threads()
        self._stack.callback(torch.set_num_threads, self.threads)
        # In every thread: PyTorch's own threads, waiting for the next small operation, would take cores from windows.
        torch.set_num_threads(1)
        # TensorFloat-32 rounds factors to 10 bits, so that far more codes would differ from those of a CPU. On a CPU,
        # "medium" makes matrix products less precise.
        self._stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        self._stack.enter_context(
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=deterministic, allow_tf32=False)
        )
        self._stack.enter_context(parametrize.cached())  # normalized weights are computed once


_PROCESS = _Process()
