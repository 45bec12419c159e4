"""A worker process of the tests with several workers: executes some runs, one after the other.

    TF_CONFIG=... python worker_process.py PLAN.json RESULT.json

The plan has "runs", each with the arguments of a `Request`; its entry "for_worker" has, by index of
the worker, the arguments that differ there. "stuck": [worker, step, seconds] makes that worker hang
before a step, and sets the timeout of all workers for it; "heartbeat_seconds" is the timeout for
heartbeats. The result has, for each run, its outcome or its error, and the training examples that
were read for each batch.
"""

import json
import logging
import os
import sys
import threading
import time

from t2t_vqem.constants import UsageError
from t2t_vqem.data.records import RecordReader
from t2t_vqem.tf_config import read_workers
from t2t_vqem.training import strategies, trainer, workers
from t2t_vqem.training.step import TrainStep


def note_reads(reads: list[list[int]]) -> None:
    """Appends to `reads` the indices of the training examples of each batch."""
    read = RecordReader.read

    def noted(self, indices):
        if "train" in os.path.basename(self._paths[0]):
            reads.append([int(index) for index in indices])
        return read(self, indices)

    RecordReader.read = noted


def hang(worker: int, step: int, seconds: float) -> None:
    """Makes a worker hang before a step while its process is alive; the timeout is `seconds`."""
    call = TrainStep.__call__

    def stuck(self, *args, **options):
        if options["step"] == step:
            workers.STUCK_SECONDS = seconds
            if read_workers().index == worker:
                time.sleep(600)
        return call(self, *args, **options)

    TrainStep.__call__ = stuck


def end_with_parent() -> None:
    """Ends this process when its parent has ended, which closes its standard input."""

    def wait():
        os.read(sys.stdin.fileno(), 1)  # sys.stdin would hold a lock that Python needs at exit
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(plan_path: str, result_path: str) -> None:
    """Executes the plan and writes the result after each run."""
    end_with_parent()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with open(plan_path, encoding="utf-8") as file:
        plan = json.load(file)
    if "stuck" in plan:
        hang(*plan["stuck"])
    # The default is so long that no test fails on a machine that pauses or is busy.
    strategies.HEARTBEAT_SECONDS = plan.get("heartbeat_seconds", 600)
    reads: list[list[int]] = []
    note_reads(reads)
    results = []
    for run in plan["runs"]:
        own = run.pop("for_worker", {}).get(str(read_workers().index), {})
        reads.clear()
        try:
            result = trainer.run(trainer.Request(**{**run, **own}))._asdict()
        except UsageError as error:
            result = {"error": str(error)}
        results.append({**result, "reads": list(reads)})
        with open(result_path, "w", encoding="utf-8") as file:
            json.dump(results, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
