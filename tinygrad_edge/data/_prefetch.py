"""Making batches in a thread, while those before are trained on."""

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["prefetched"]

T = TypeVar("T")


def prefetched(items: Iterator[T], ahead: int) -> Generator[T, None, None]:
    """Iterate over `items`, made in a thread, at most `ahead` of them more than were asked for.

    An exception that making an item raises comes out where that item would have. When the generator
    is closed, or dropped, as by an interrupt, the thread ends after the item that it is making.
    """
    results: SimpleQueue[list[T] | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(ahead)
    closed = threading.Event()

    def work() -> None:
        try:
            # Room is waited for before an item is made, so that `ahead` counts the one being made.
            while room.acquire() and not closed.is_set():
                results.put([next(items)])
        except StopIteration:
            results.put(None)
        except BaseException as error:  # whatever it is, it is for the consumer to know
            results.put(error)

    # A daemon: an iterator that nobody closed does not keep the process alive.
    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            room.release()
            yield result.pop()  # not held here while it is used
    finally:
        closed.set()
        room.release()
        thread.join()
