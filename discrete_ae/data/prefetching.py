"""Items made on a thread of their own while earlier ones are used."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Generic, TypeVar

Item = TypeVar("Item")

_END = object()


class Prefetched(Generic[Item]):
    """Iterates once over items that a thread makes up to `ahead` in advance; an error is raised in the item's place.

    Close it where it is left before its end: the thread stops after the item that it is at.
    """

    def __init__(self, items: Iterable[Item], ahead: int) -> None:
        self._items = iter(items)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._waiting = deque(self._pool.submit(next, self._items, _END) for _ in range(ahead))

    def __iter__(self) -> Iterator[Item]:
        with closing(self):
            while (item := self._waiting.popleft().result()) is not _END:
                self._waiting.append(self._pool.submit(next, self._items, _END))
                yield item  # type: ignore[misc]

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._pool.shutdown(cancel_futures=True)
