"""Work in threads: independent pieces, one thread a JAX device, and a single piece beside the main thread's work.

Python aborts if it exits while a thread is running compiled code, unless it waits for that thread. So it waits for all
threads that start here, and `leave` ends a program that should not wait.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import concurrent.futures
import os
import queue
import sys
import threading
from typing import Any
from typing import NoReturn

import jax

from meta_train.host import cores

_NAME = "over_devices"  # of the threads


class Stopped(Exception):
    """Raised by `stop_here` in threads whose results are no longer wanted."""


def over_devices(
    work: Callable[[Any, Callable[[], None]], Any],
    items: Sequence[Any],
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]  # bound by assignment
) -> Iterator[tuple[Any, Any]]:
    """Yields `(item, work(item, stop_here))` as items are finished. A device that is free takes the next item.

    Each device has a thread, in which it is JAX's default device. An error in `work` is raised here at once. After an
    error, after Ctrl-C, and when the iterator is closed or the program exits, the other threads begin no new item, and
    stop where `work` calls `stop_here()`.

    Args:
      work: a function of an item and of `stop_here`.
      items: what to work on.
      devices: by default `jax.devices()`.

    Example:
      >>> dict(over_devices(lambda item, stop_here: item**2, [1, 2, 3])) == {1: 1, 2: 4, 3: 9}
      True
    """
    waiting, done, stop = queue.SimpleQueue(), queue.SimpleQueue(), threading.Event()
    for item in items:
        waiting.put(item)

    def stopped():
        return stop.is_set() or not threading.main_thread().is_alive()

    def stop_here():
        if stopped():
            raise Stopped

    def serve(device):
        with jax.default_device(device):
            while not stopped():
                try:
                    item = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((item, work(item, stop_here), None))
                except BaseException as error:  # not only Exception: it is raised again, where somebody waits
                    done.put((item, None, error))
                    return

    chosen = (jax.devices() if devices is None else devices)[: len(items)]
    threads = [threading.Thread(target=serve, args=(device,), name=_NAME) for device in chosen]
    for thread in threads:
        thread.start()
    try:
        for _ in items:
            item, outcome, error = done.get()
            if error is not None:
                raise error
            yield item, outcome
        for thread in threads:  # which have nothing left to do
            thread.join()
    finally:
        stop.set()


def aside(works: Iterable[Callable[[], Any]]) -> list[concurrent.futures.Future]:
    """Starts works in threads beside the caller, one thread a core. The futures return their results or raise errors.

    A work begins when the iterable has yielded it, so that what makes the next one runs meanwhile.

    Example:
      >>> [future.result() for future in aside([lambda: 1 + 1])]
      [2]
    """
    pool = concurrent.futures.ThreadPoolExecutor(cores.count(), thread_name_prefix="aside")
    try:
        return [pool.submit(work) for work in works]
    finally:
        pool.shutdown(wait=False)  # the threads end with their work


def busy() -> bool:
    """Whether threads of `over_devices` are still working, for instance after an error in one of them."""
    return any(thread.name == _NAME for thread in threading.enumerate())


def leave(status: int | None) -> NoReturn:
    """Ends the process with a status, as `sys.exit` does, but without waiting for threads of `over_devices`."""
    if busy():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)
    sys.exit(status)
