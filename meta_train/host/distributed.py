"""One run in several processes: one per host, or several on one machine. All take part in every outer step.

Each process holds its share of the particles and a copy of theta. An outer step exchanges one sum of gradients, which
has the size of theta whatever the number of particles, and a few scalars for each task.
"""

from collections.abc import Callable
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import jax.experimental.multihost_utils
import numpy as np

from meta_train.host import cores

_LAUNCHER = "LEARNED_OPTIM_LAUNCHER"  # environment variable: the process that started this one with `launch`


def initialize(coordinator: str, num_processes: int, process_id: int) -> None:
    """Joins a run of several processes. Call it in every process, before any JAX work.

    Args:
      coordinator: `HOST:PORT` of process 0, reachable from all.
      num_processes: how many processes take part.
      process_id: which of them this is, from 0 on.

    Raises:
      ValueError: if the numbers do not fit together.
    """
    if not 0 <= process_id < num_processes:
        raise ValueError(f"process_id must lie between 0 and num_processes - 1, got {process_id} of {num_processes}.")
    if ":" not in coordinator:
        raise ValueError(f"the coordinator must be HOST:PORT of process 0, got {coordinator!r}.")
    if _LAUNCHER in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ[_LAUNCHER]),), daemon=True).start()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, num_processes, process_id, initialization_timeout=120)


def is_main() -> bool:
    """Whether this is process 0, which writes the files and shows the progress."""
    return jax.process_index() == 0


def decision_of_main(choice: bool) -> bool:
    """Returns what process 0 chose. All processes must call it at the same point."""
    if jax.process_count() == 1:
        return choice
    return bool(jax.experimental.multihost_utils.broadcast_one_to_all(np.asarray(choice)))


def do_in_main(work: Callable[[], None]) -> None:
    """Does some work in process 0 while the others wait. If the work raises an error, all processes do."""
    error = None
    if is_main():
        try:
            work()
        except Exception as caught:
            error = caught
    if not decision_of_main(error is None):
        raise error or ValueError("process 0 could not go on; its own message says why.")


def all_agree(choice: bool) -> bool:
    """Whether all processes chose True. All of them must call it at the same point."""
    if jax.process_count() == 1:
        return choice
    return bool(jax.experimental.multihost_utils.process_allgather(np.asarray(choice)).all())


def launch(arguments: list[str], num_processes: int) -> int:
    """Runs `python -m meta_train ARGUMENTS` in several processes on this machine, which share its cores.

    If one of them fails, or this process ends, be it by SIGKILL, the others are stopped too.

    Returns:
      The exit status: 0 if all processes succeeded, otherwise that of the process that failed first.
    """
    coordinator = f"localhost:{_free_port()}"
    environment = {**cores.shared_environment(num_processes), _LAUNCHER: str(os.getpid())}
    command = [sys.executable, "-m", "meta_train", *arguments, "--coordinator", coordinator]
    processes: list[subprocess.Popen] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    try:
        for i in range(num_processes):
            processes.append(subprocess.Popen([*command, "--process-id", str(i)], env=environment))
        return _wait(processes)
    except KeyboardInterrupt:
        return 130
    finally:
        for process in processes:
            process.kill()  # a run can be killed at any time
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _wait(processes):
    while True:
        statuses = [process.poll() for process in processes]
        failed = [i for i, status in enumerate(statuses) if status]
        if failed:
            i = failed[0]
            reason = f"was killed by signal {-statuses[i]}" if statuses[i] < 0 else f"failed with status {statuses[i]}"
            message = f"meta-train: process {i} of {len(processes)} {reason}, so the others were stopped."
            if statuses[i] != 2:  # which is for bad arguments
                message += " The run goes on from its last checkpoint with the same command and --resume."
            print(message, file=sys.stderr)
            return abs(statuses[i])
        if all(status == 0 for status in statuses):
            return 0
        time.sleep(0.1)


def _end_with(launcher):
    """Ends this process when its parent is no longer the launcher. A run can be killed at any time."""
    while os.getppid() == launcher:
        time.sleep(1.0)
    os._exit(1)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
