"""Work on all devices: who does what, errors, stopping, and the end of the process."""

import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from meta_train.host import parallel


def test_each_thread_has_a_device_and_all_work_at_once():
    meet = threading.Barrier(2, timeout=60)

    def work(item, stop_here):
        meet.wait()
        return jax.jit(lambda x: x + 1)(jnp.ones(3)).devices()

    found = dict(parallel.over_devices(work, ["a", "b"]))
    assert found["a"] | found["b"] == set(jax.devices())
    assert not parallel.busy()


def test_all_items_are_done_by_few_devices_in_order():
    began = []
    work = lambda item, stop_here: began.append(item) or item**2
    assert list(parallel.over_devices(work, [3, 1, 2], jax.devices()[:1])) == [(3, 9), (1, 1), (2, 4)]
    assert began == [3, 1, 2]
    assert list(parallel.over_devices(work, [])) == []


def test_an_error_surfaces_at_once_and_stops_the_others():
    stopped, began = threading.Event(), []

    def work(item, stop_here):
        began.append(item)
        if item == "bad":
            raise KeyError("the message")
        try:
            while True:
                stop_here()
                time.sleep(0.01)
        except parallel.Stopped:
            stopped.set()
            raise

    with pytest.raises(KeyError, match="the message"):
        list(parallel.over_devices(work, ["endless", "bad", "never"]))
    assert stopped.wait(60)
    assert sorted(began) == ["bad", "endless"]
    _wait_for_threads()


def test_who_no_longer_iterates_stops_the_rest():
    stopped = threading.Event()

    def work(item, stop_here):
        while item == "endless":
            try:
                stop_here()
            except parallel.Stopped:
                stopped.set()
                raise
            time.sleep(0.01)
        return item

    iterator = parallel.over_devices(work, ["endless", "quick"])
    assert next(iterator) == ("quick", "quick")
    assert parallel.busy()
    iterator.close()
    assert stopped.wait(60)
    _wait_for_threads()


def test_the_process_leaves_at_once_while_a_thread_is_in_compiled_code():
    """Where Python itself would abort."""
    code = """
import time, jax, jax.numpy as jnp
from meta_train.host import parallel
jax.config.update("jax_num_cpu_devices", 2)
def work(item, stop_here):
    if item == "bad":
        time.sleep(0.5)
        raise ValueError("the message")
    spin = jax.jit(lambda x: jax.lax.fori_loop(0, 10**9, lambda i, x: jnp.sin(x), x))
    jax.block_until_ready(spin(jnp.ones(100)))
try:
    list(parallel.over_devices(work, ["endless", "bad"]))
except ValueError as error:
    print(error)
parallel.leave(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (7, "the message\n"), done.stderr
    with pytest.raises(SystemExit) as end:
        parallel.leave(3)  # with no thread at work it is the usual end
    assert end.value.code == 3


def test_threads_stop_when_the_program_is_at_its_end():
    """Python waits until they are out of compiled code, where it used to abort with status 134."""
    code = """
import functools, time, jax, jax.numpy as jnp
from meta_train.host import parallel
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_compilation_cache", False)
def work(item, stop_here):
    while item == "endless":
        stop_here()
        program = jax.jit(lambda x: functools.reduce(lambda x, i: jnp.sort(x @ x + i), range(40), x))
        program.lower(jnp.ones((9, 9))).compile()
    time.sleep(1.0)
iterator = parallel.over_devices(work, ["endless", "quick"])
print(next(iterator))
raise KeyError("the error")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (1, "('quick', None)\n"), done.stderr
    assert done.stderr.endswith("KeyError: 'the error'\n"), done.stderr


def test_aside_gives_results_and_errors_and_prints_nothing(capfd):
    def fail():
        raise KeyError("the message")

    given, failed = parallel.aside([lambda: 3, fail])
    assert given.result() == 3
    with pytest.raises(KeyError, match="the message"):
        failed.result()
    assert capfd.readouterr().err == ""


def test_works_aside_begin_while_the_next_one_is_made():
    begun = threading.Event()

    def works():
        yield begun.set
        assert begun.wait(60)
        yield lambda: 5

    assert [future.result() for future in parallel.aside(works())] == [None, 5]


def _wait_for_threads():
    deadline = time.monotonic() + 60
    while parallel.busy():
        assert time.monotonic() < deadline
        time.sleep(0.01)
