"""Connections and processes: forked children refuse them, spawned ones connect again."""

from __future__ import annotations

import pytest

from tests.helpers.programs import run_program, run_python

pytest.importorskip("pyarrow.flight")

# The server runs in a process of its own, so that the program uses gRPC only as it says.
SERVED = """
import multiprocessing, os, signal, sys
import numpy as np
import embstore

def serve(path, told, stop):
    with embstore.serve(path) as server:
        told.put(server.address)
        stop.wait(600)

def child(work):
    # Return the exit status of a forked child.
    pid = os.fork()
    if pid == 0:
        signal.alarm(300)  # Ends a child that waits for ever.
        try:
            os._exit(work())
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    told, stop = spawn.SimpleQueue(), spawn.Event()
    process = spawn.Process(target=serve, args=(sys.argv[1], told, stop))
    process.start()
    try:
        main(told.get())
    finally:
        stop.set()
        process.join(300)
"""

CHILD = """
def main(address):
    store = embstore.connect(address)
    expected = store[:]
    future = store.submit([1, 2])
    future.result()

    def look_up():
        assert len(store) == 11 and "embstore" not in repr(store)
        assert future.result().shape == (2, 8)  # It was done before the fork.
        found = []
        for call in (
            lambda: store[3],
            lambda: store.lookup([1, 2]),
            lambda: store.ids(["nowhere"], missing="none"),
            lambda: store.submit([1]).result(),
            lambda: embstore.connect(address),
            lambda: embstore.serve(sys.argv[1]),
        ):
            try:
                call()
            except embstore.RemoteError as error:
                found.append("does not work after a fork" in str(error))
        store.close()
        return 0 if found == [True] * 6 else 1

    print(child(look_up))
    print(np.array_equal(store[:], expected))  # The parent goes on.
"""

BEFORE = """
def main(address):
    import pyarrow.flight  # Importing it is no use of gRPC.

    def connect():
        with embstore.connect(address) as store:
            return 0 if store[[1, 2]].shape == (2, 8) else 1

    print(child(connect), child(connect))
"""

DROPPED = """
def main(address):
    # The interpreter ends while requests are under way, and stores are open.
    open_store = embstore.connect(address)
    open_store.submit(np.arange(11))
"""


def run(tmp_path, main: str, path: object) -> str:
    program = tmp_path / "program.py"
    program.write_text(main + SERVED)
    return run_python("-W", "ignore", program, path).stdout


def test_forked_child_refuses_the_connection(words_store, tmp_path):
    assert run(tmp_path, CHILD, words_store) == "0\nTrue\n"


def test_child_may_connect_if_its_parent_has_not(words_store, tmp_path):
    assert run(tmp_path, BEFORE, words_store) == "0 0\n"


def test_interpreter_ends_with_open_connections(words_store, tmp_path):
    assert run(tmp_path, DROPPED, words_store) == ""


def test_nothing_of_flight_is_imported_before_it_is_used():
    program = """
        import sys
        import embstore
        print([name for name in sys.modules if name.startswith(("pyarrow", "grpc"))])
    """
    assert run_program(program) == "[]\n"


def test_flight_that_is_missing_is_named():
    program = """
        import sys
        sys.modules["pyarrow.flight"] = None
        import embstore
        try:
            embstore.connect("grpc://127.0.0.1:1")
        except ImportError as error:
            print(error)
    """
    expected = 'embstore.connect needs pyarrow with Flight: pip install "embstore[serve]"\n'
    assert run_program(program) == expected
