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
        self._thread = threading.Thread(target=self._make, args=(items,), daemon=True, name="prefetch")
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
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.01)  # room for the item that it is about to leave
            except queue.Empty:
                continue

    def _make(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                self._queue.put((item, None))
                if self._stopped.is_set():
                    return
        except BaseException as error:  # whatever it is, it belongs to whoever waits for the item
            self._queue.put((None, error))
        else:
            self._queue.put((_END, None))
