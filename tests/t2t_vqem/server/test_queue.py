"""Rows are computed at once where they can be, in fair order, with others of their kind."""

import asyncio
import threading

import pytest

from t2t_vqem.server.limits import RequestError
from t2t_vqem.server.queue import BatchQueue

SETTINGS = {"workers": 1, "batch_rows": 4, "batch_length": 1000, "queue_rows": 100}
SECONDS = 120  # after which a test has hung


class Recorder:
    """Computes nothing, and remembers the batches; waits at a gate if it is shut."""

    def __init__(self):
        self.batches = []
        self.open = threading.Event()
        self.open.set()
        self.started = threading.Semaphore(0)

    def __call__(self, worker, kind, payloads):
        self.batches.append((kind, list(payloads)))
        self.started.release()
        assert self.open.wait(SECONDS)
        return [error if (error := _error(p)) else (kind, p) for p in payloads]


def _error(payload):
    return payload if isinstance(payload, Exception) else None


def queue_of(compute, **settings):
    return BatchQueue(compute, **{**SETTINGS, **settings})


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, SECONDS))


async def busy(queue, compute, workers=1):
    """Shuts the gate and gives every worker a row; returns the tasks that wait for those."""
    compute.open.clear()
    tasks = []
    for _ in range(workers):
        tasks.append(asyncio.create_task(queue.run("first", ["busy"], [1])))
        await asyncio.sleep(0)
        await asyncio.to_thread(compute.started.acquire)
    compute.batches.clear()
    return tasks


async def waiting(queue, kind, payloads, lengths=None):
    task = asyncio.create_task(queue.run(kind, payloads, lengths or [1] * len(payloads)))
    await asyncio.sleep(0)  # it has queued its rows
    return task


def test_results_come_in_the_order_of_the_rows():
    async def check():
        queue = queue_of(Recorder(), workers=3)
        results = await queue.run("a", list(range(50)), [i % 7 for i in range(50)])
        assert results == [("a", i) for i in range(50)]
        assert await queue.run("a", [], []) == []

    run(check())


def test_a_row_alone_does_not_wait():
    async def check():
        waits = []
        queue = queue_of(Recorder(), waits=waits.append)
        await queue.run("a", ["x"], [5])
        assert waits[0] < 0.005

    run(check())


def test_rows_of_one_kind_and_like_length_are_computed_together():
    async def check():
        compute = Recorder()
        queue = queue_of(compute)
        tasks = await busy(queue, compute)
        for kind, payload, length in [
            ("a", "short", 5), ("a", "long", 50), ("b", "other", 5), ("a", "like", 7),
            ("a", "longer", 55), ("a", "also", 6),
        ]:  # fmt: skip
            tasks.append(await waiting(queue, kind, [payload], [length]))
        compute.open.set()
        await asyncio.gather(*tasks)
        assert compute.batches == [
            ("a", ["short", "like", "also"]),
            ("a", ["long", "longer"]),
            ("b", ["other"]),
        ]

    run(check())


def test_batches_are_bounded():
    async def check():
        compute, sizes = Recorder(), []
        queue = queue_of(compute, sizes=sizes.append)
        tasks = await busy(queue, compute)
        tasks.append(await waiting(queue, "a", list(range(10))))
        assert len(queue) == 10
        compute.open.set()
        await asyncio.gather(*tasks)
        assert sizes == [1, 4, 4, 2]
        assert len(queue) == 0

    run(check())


def test_batches_are_bounded_by_the_sum_of_their_lengths():
    async def check():
        compute = Recorder()
        queue = queue_of(compute, batch_length=30)
        tasks = await busy(queue, compute)
        tasks.append(await waiting(queue, "a", list("abcdef"), [10, 10, 11, 40, 40, 10]))
        compute.open.set()
        await asyncio.gather(*tasks)
        assert compute.batches == [
            ("a", ["a", "b", "f"]), ("a", ["c"]), ("a", ["d"]), ("a", ["e"])
        ]  # fmt: skip

    run(check())


def test_a_small_request_overtakes_a_large_one_and_does_not_starve_it():
    async def check():
        compute = Recorder()
        queue = queue_of(compute, batch_rows=1)
        tasks = await busy(queue, compute)
        large = await waiting(queue, "large", list(range(20)))
        small = await waiting(queue, "small", ["x"])
        compute.open.set()
        await asyncio.gather(large, small, *tasks)
        assert ("small", ["x"]) in compute.batches[:3]

        compute.batches.clear()
        tasks = await busy(queue, compute)
        large = await waiting(queue, "large", list(range(5)))

        async def steady():  # there is always a small request
            while not large.done():
                await queue.run("small", ["x"], [1])

        tasks += [asyncio.create_task(steady()), asyncio.create_task(steady())]
        compute.open.set()
        await asyncio.gather(large, *tasks)
        assert compute.batches.count(("small", ["x"])) < 30

    run(check())


def test_a_full_queue_refuses_what_does_not_fit():
    async def check():
        compute = Recorder()
        queue = queue_of(compute, queue_rows=3)
        tasks = await busy(queue, compute)
        tasks.append(await waiting(queue, "a", [1, 2]))
        with pytest.raises(
            RequestError, match="2 texts or images are waiting .* limited to 3"
        ) as error:
            await queue.run("a", [3, 4], [1, 1])
        assert error.value.status == 429
        compute.open.set()
        await asyncio.gather(*tasks)
        assert await queue.run("a", [3, 4], [1, 1]) == [("a", 3), ("a", 4)]

    run(check())


def test_rows_of_a_client_that_has_gone_are_not_computed():
    async def check():
        compute = Recorder()
        queue = queue_of(compute)
        tasks = await busy(queue, compute)
        gone = await waiting(queue, "a", [1, 2])
        stays = await waiting(queue, "a", [3])
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert len(queue) == 1
        compute.open.set()
        await asyncio.gather(stays, *tasks)
        assert compute.batches == [("a", [3])]

    run(check())


def test_an_error_is_that_of_its_row():
    async def check():
        queue = queue_of(Recorder())
        bad = asyncio.create_task(queue.run("a", [RequestError(422, "bad")], [1]))
        good = asyncio.create_task(queue.run("a", ["x"], [1]))
        assert await good == [("a", "x")]
        with pytest.raises(RequestError, match="bad"):
            await bad

    run(check())


def test_after_a_failure_the_worker_goes_on():
    async def check():
        def compute(worker, kind, payloads):
            if kind == "bad":
                raise ArithmeticError("no such number")
            return payloads

        queue = queue_of(compute)
        with pytest.raises(ArithmeticError, match="no such number"):
            await queue.run("bad", [1, 2], [1, 1])
        assert await queue.run("good", [1], [1]) == [1]

    run(check())
