import multiprocessing
from multiprocessing import connection

from audioml.store.locks import hold_lock, try_exclusive

FORK = multiprocessing.get_context("fork")


def _count(path, lock, times, ready):
    ready.wait()
    for _ in range(times):
        with hold_lock(lock):
            path.write_text(str(int(path.read_text()) + 1))


def test_holders_take_turns(tmp_path):
    path, lock, ready = tmp_path / "count", tmp_path / "folder" / "lock", FORK.Barrier(5)
    path.write_text("0")
    workers = [FORK.Process(target=_count, args=(path, lock, 50, ready)) for _ in range(4)]
    with hold_lock(lock):
        for worker in workers:
            worker.start()
        ready.wait()
        # All of them are at the lock now; without one they would be through at once.
        assert connection.wait([worker.sentinel for worker in workers], timeout=0.3) == []
        assert path.read_text() == "0"
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert path.read_text() == "200"


def _hold_until_killed(lock, held):
    with hold_lock(lock):
        held.set()
        FORK.Event().wait()


def test_a_killed_holder_holds_nothing(tmp_path):
    held = FORK.Event()
    worker = FORK.Process(target=_hold_until_killed, args=(tmp_path / "lock", held))
    worker.start()
    held.wait()
    worker.kill()
    worker.join()
    with hold_lock(tmp_path / "lock") as descriptor:
        assert try_exclusive(descriptor)


def test_a_shared_lock_becomes_exclusive_only_without_other_holders(tmp_path):
    with hold_lock(tmp_path / "lock", shared=True) as one:
        with hold_lock(tmp_path / "lock", shared=True):
            assert not try_exclusive(one)
        assert try_exclusive(one)
