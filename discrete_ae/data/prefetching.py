"""Items made on a thread of their own while earlier ones are used."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Generic, TypeVar

Item = TypeVar("Item")

_END = object()


class Prefetched(Generic[Item]):
    """Iterates once over items that are made up to `ahead` in advance; what fails there is raised in its place.

    Close it where it is left before its end: the thread stops at the next item.

    Args:
        items: what is made; all of it happens on the thread.
        ahead: so many may wait, at least 1.
    """

    def __init__(self, items: Iterable[Item], ahead: int) -> None:
        self._queue: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(ahead)
        self._stopped = threading.Event()
        # No daemon: one that is stopped in the middle of native code at the end of the program takes it down.
        self._thread = threading.Thread(target=self._make, args=(items,), name="prefetch")
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        with closing(self):
            while True:
                item, error = self._queue.get()
                if error is not None:
                    raise error
                if item is _END:
                    return
                yield item  # type: ignore[misc]

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._stopped.set()
        self._thread.join()

    def _make(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                if not self._leave(item, None):
                    return
        except BaseException as error:  # whatever it is, it belongs to whoever waits for the item
            self._leave(None, error)
        else:
            self._leave(_END, None)

    def _leave(self, item: object, error: BaseException | None) -> bool:
        """Wait for room; False if nobody will make any, since it was closed or the program has ended."""
        while not self._stopped.is_set() and threading.main_thread().is_alive():
            try:
                self._queue.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
