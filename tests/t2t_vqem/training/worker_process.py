"""What tests of several workers start as a process each: some runs, one after the other.

    TF_CONFIG=... python worker_process.py PLAN.json RESULT.json

The plan has "runs", the arguments of a `Request` each; in them "for_worker" holds, by the worker's
number, what is different there. "stuck": [worker, step, seconds] leaves that worker hanging before
a step, and says how long all bear with it; "heartbeat_seconds" is how long one may be silent. The
result has, for each run, its outcome or its error, and the training examples read for each batch.
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
    """Appends to `reads` the numbers of the training examples that are read together."""
    read = RecordReader.read

    def noted(self, indices):
        if "train" in os.path.basename(self._paths[0]):
            reads.append([int(index) for index in indices])
        return read(self, indices)

    RecordReader.read = noted


def hang(worker: int, step: int, seconds: float) -> None:
    """Lets a worker do nothing any more before a step, alive as it is, which ends in `seconds`."""
    call = TrainStep.__call__

    def stuck(self, *args, **options):
        if options["step"] == step:
            workers.STUCK_SECONDS = seconds
            if read_workers().index == worker:
                time.sleep(600)
        return call(self, *args, **options)

    TrainStep.__call__ = stuck


def end_with_parent() -> None:
    """Ends this process when the one that started it is gone, which closes its standard input."""

    def wait():
        os.read(sys.stdin.fileno(), 1)  # not by sys.stdin, whose lock Python needs at its end
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(plan_path: str, result_path: str) -> None:
    """Does what the plan says and writes the result after each run."""
    end_with_parent()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with open(plan_path, encoding="utf-8") as file:
        plan = json.load(file)
    if "stuck" in plan:
        hang(*plan["stuck"])
    # By default so long that a machine which pauses, or has much else to do, fails no test.
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
