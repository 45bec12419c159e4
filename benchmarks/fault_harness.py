"""Kills a training again and again, and compares the result with a run without interruption.

    pip install -e '.[demo]'
    python benchmarks/fault_harness.py --work_dir=runs/faults \\
        --results=benchmarks/results/fault_harness.md

For each model, on one device: kill -9 while it trains, saves, evaluates or reads, each time at a
random moment, then the same command again. The next start must continue from the step that was
reported as saved or a later one, and in the end every saved number and every logged evaluation must
equal that of the run without interruption, bit for bit. The processes are forked from one that has
imported everything, so that a start takes seconds.
"""

from __future__ import annotations

import argparse
import collections
import functools
import multiprocessing
import os
import pathlib
import random
import shutil
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from commands import evaluations, read_log
from report import header, write
from strategy_equality import CASES, Case, generate

# One line per model: hyperparameters that make it so small that a step takes milliseconds.
SMALL = {
    "transformer": "num_encoder_layers=1,num_decoder_layers=1,hidden_size=16,filter_size=32,"
    "num_heads=2,num_buckets=3,batch_size=480,max_length=48,ema_decay=0.9,warmup_steps=50",
    "vqvae": "hidden_size=8,num_residual_blocks=1,residual_size=4,num_mixtures=2,num_codes=12,"
    "num_codebooks=2,code_size=6,prior_layers=1,prior_size=8,prior_filter_size=8,prior_heads=2,"
    "batch_size=32,ema_decay=0.9,schedule=rsqrt",
    "transformer_nat": "num_encoder_layers=1,num_target_encoder_layers=1,num_decoder_layers=1,"
    "num_predictor_layers=1,hidden_size=16,filter_size=32,num_heads=2,num_codes=12,code_size=6,"
    "num_buckets=3,batch_size=480,max_length=48,ema_decay=0.9,warmup_steps=50",
}
PHASES = ("training", "saving", "evaluating", "reading")
SAVE, EVALUATE = 5, 10  # updates between two of them
TIMEOUT = 1800  # seconds without a message from the process


class Kill(NamedTuple):
    """When to kill: some time into the n-th occurrence of a phase since the start."""

    phase: str
    number: int
    seconds: float

    @classmethod
    def draw(cls, rng: random.Random) -> Kill:
        """Draws a moment at which the run has made progress, but often not up to the next save."""
        phase = rng.choice(PHASES)
        most = {"training": 2 * SAVE, "saving": 2, "evaluating": 1, "reading": 3 * SAVE}[phase]
        longest = {"training": 0.02, "saving": 0.1, "evaluating": 1.0, "reading": 0.02}[phase]
        return cls(phase, rng.randint(1, most), rng.uniform(0, longest))


def train(options: dict[str, Any], messages: Connection) -> None:
    """Trains in this process, and reports through `messages` what it does: (phase, number)."""
    from t2t_vqem.data.records import RecordReader
    from t2t_vqem.training import trainer
    from t2t_vqem.training.checkpoints import Checkpoints
    from t2t_vqem.training.evaluation import Evaluator
    from t2t_vqem.training.step import TrainStep

    counts = collections.Counter()
    lock = threading.Lock()  # reading runs in a thread of its own

    def send(what: str, number: int) -> None:
        with lock:
            messages.send((what, number))

    def announce(owner: type, name: str, phase: str) -> None:
        method = getattr(owner, name)

        @functools.wraps(method)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            counts[phase] += 1
            send(phase, counts[phase])
            return method(*args, **kwargs)

        setattr(owner, name, wrapped)

    def report(owner: type, name: str, value: Callable[..., tuple[str, int]]) -> None:
        method = getattr(owner, name)

        @functools.wraps(method)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            send(*value(result, *args))
            return result

        setattr(owner, name, wrapped)

    announce(TrainStep, "__call__", "training")
    announce(Checkpoints, "save", "saving")
    announce(Evaluator, "__call__", "evaluating")
    announce(RecordReader, "read", "reading")
    report(Checkpoints, "save", lambda result, self, step: ("saved", step))
    report(Checkpoints, "restore", lambda step, self: ("restored", step))
    trainer.run(trainer.Request(**options))
    send("done", 0)


class Harness:
    """Starts and kills the processes of one run."""

    def __init__(self, options: dict[str, Any], rng: random.Random):
        """Starts nothing yet."""
        self._options = options
        self._rng = rng
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["t2t_vqem.training.trainer"])
        self.saved = 0  # last step that was reported as saved
        self.lost = 0  # starts that continued from an earlier step
        self.kills = collections.Counter()

    def finish(self) -> None:
        """Trains to the end without interruption."""
        self._start(None)

    def kill_often(self, times: int) -> None:
        """Starts and kills the given number of times; raises if the run ends before that."""
        while self.kills.total() < times:
            kill = Kill.draw(self._rng)
            if not self._start(kill):
                raise SystemExit(f"done after {self.kills.total()} kills: raise --train_steps")
            self.kills[kill.phase] += 1
            print(
                f"{self.kills.total()}: killed while {kill.phase}, saved: {self.saved}", flush=True
            )

    def _start(self, kill: Kill | None) -> bool:
        """Returns whether the process was killed before it came to the end."""
        messages, reporter = self._context.Pipe(duplex=False)
        process = self._context.Process(target=train, args=(self._options, reporter), daemon=True)
        process.start()
        reporter.close()
        try:
            while True:
                if not messages.poll(TIMEOUT):
                    raise SystemExit("the process hangs")
                try:
                    what, number = messages.recv()
                except EOFError:
                    raise SystemExit("the process has failed, see above") from None
                self._note(what, number)
                if what == "done":
                    return False
                if kill and (what, number) == kill[:2]:
                    time.sleep(kill.seconds)
                    return True
        finally:
            process.kill()
            while messages.poll():  # what it reported before it was killed
                try:
                    self._note(*messages.recv())
                except EOFError:
                    break
            process.join()

    def _note(self, what: str, number: int) -> None:
        if what == "saved":
            self.saved = number
        elif what == "restored" and number < self.saved:
            self.lost += 1


def differences(folder: str, other: str, step: int) -> tuple[int, int]:
    """Returns how many saved variables and how many evaluations differ between two runs."""
    import tensorflow as tf

    readers = [tf.train.load_checkpoint(f"{f}/checkpoints/ckpt-{step}") for f in (folder, other)]
    names = set().union(*(reader.get_variable_to_shape_map() for reader in readers))
    names = {n for n in names if not n.startswith(("_CHECKPOINTABLE", "save_counter"))}
    variables = sum(
        not np.array_equal(*(reader.get_tensor(name) for reader in readers)) for name in names
    )
    ours, others = (
        [{k: v for k, v in line.items() if k != "seconds"} for line in evaluations(read_log(path))]
        for path in (folder, other)
    )
    unequal = sum(a != b for a, b in zip(ours, others, strict=False)) + abs(len(ours) - len(others))
    return variables, unequal


def measure(case: Case, work_dir: pathlib.Path, args: argparse.Namespace) -> list[str]:
    """Trains a model twice, once with interruptions, and returns the cells of its row."""
    data_dir = str(work_dir.parent / "data")
    generate(case, data_dir)
    folders = [str(work_dir / name) for name in ("unbroken", "broken")]
    harnesses = []
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        options = {
            "output_dir": folder,
            "problem": case.problem,
            "problem_params": case.problem_params,
            "hparams_set": case.hparams_set,
            "hparams": case.hparams,
            "data_dir": data_dir,
            "train_steps": args.train_steps,
            "save_checkpoints_steps": SAVE,
            "local_eval_frequency": EVALUATE,
            "keep_checkpoint_max": 3,
            "xla": False,
        }
        harnesses.append(Harness(options, random.Random(args.seed)))
    unbroken, broken = harnesses
    unbroken.finish()
    broken.kill_often(args.kills)
    broken.finish()
    variables, evaluations = differences(*folders, args.train_steps)
    kills = [str(broken.kills[phase]) for phase in PHASES]
    return [*kills, str(broken.lost), str(variables), str(evaluations)]


def main() -> None:
    """Interrupts a run of each model and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work_dir", required=True, help="Folder for data and runs.")
    parser.add_argument("--models", default=",".join(SMALL), help="Models, separated by commas.")
    parser.add_argument("--kills", type=int, default=50, help="Kills per model.")
    parser.add_argument("--train_steps", type=int, default=400, help="Updates of each run.")
    parser.add_argument("--seed", type=int, default=1, help="Seed of the moments to kill at.")
    parser.add_argument("--results", help="Markdown file to write.")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    work_dir = pathlib.Path(args.work_dir).absolute()
    lines = header("Runs that are killed", ["t2t-vqem", "tensorflow", "keras", "numpy"])
    lines += [
        f"{args.train_steps} updates on one device, saved every {SAVE}, evaluated every "
        f"{EVALUATE}. Columns 2 to 5: how often kill -9 came in that phase. Lost: starts that "
        "continued from a step before the one reported as saved. Differences from the run without "
        "interruption: saved variables (weights, their average, Adam's state, codebooks) and "
        "evaluations that are not equal bit for bit.",
        "",
        f"| model | {' | '.join(PHASES)} | lost | variables | evaluations |",
        "|--" + "|--:" * (len(PHASES) + 3) + "|",
    ]
    for model in args.models.split(","):
        case = CASES[model]._replace(hparams=SMALL[model])
        lines.append(f"| {model} | {' | '.join(measure(case, work_dir / model, args))} |")
    write(lines, args.results)


if __name__ == "__main__":
    main()
