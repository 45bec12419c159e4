"""Trains many runs side by side for a limited time, on one GPU or on CPUs.

    python benchmarks/many_runs.py --plan=benchmarks/plans/cifar10_long.json --data_dir=data \\
        --work_dir=runs --parallel=6 --minutes=10 --keep_dir=kept

A plan is a JSON file: a list of runs, each with its "name" and the "flags" of t2t-trainer. Each run
has a folder of its name in --work_dir and resumes from it, so the same command continues what an
earlier one could not finish. When the time is over, all runs save and end with exit status 75, like
t2t-trainer. What the project keeps of a run (settings, figures and log, a few hundred
kilobytes) is copied to --keep_dir every minute, with --keep_weights also the best weights.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

from commands import command

STOPPED = 75  # exit status of a t2t-trainer that a signal has stopped
KEPT = ("flags.json", "hparams.json", "config.gin", "vocab.model", "metrics.jsonl")
GRACE = 120  # seconds in which a run must have saved
SHOW_EVERY = 30
KEEP_EVERY = 60


class Run(NamedTuple):
    """One training of the plan."""

    name: str
    flags: list[str]


def main() -> int:
    """Runs the plan until all runs are done or the time is over."""
    args = parse_arguments()
    deadline = time.monotonic() + 60 * args.minutes
    waiting = read_plan(args.plan)
    names = [run.name for run in waiting]
    active: dict[str, subprocess.Popen] = {}
    statuses: dict[str, int] = {}
    shown = kept = time.monotonic()
    while (waiting or active) and time.monotonic() < deadline:
        while waiting and len(active) < args.parallel:
            run = waiting.pop(0)
            active[run.name] = start(run, args)
        statuses.update(ended(active))
        now = time.monotonic()
        if now - shown > SHOW_EVERY:
            show(names, args.work_dir, statuses)
            shown = now
        if args.keep_dir and now - kept > KEEP_EVERY:
            keep(names, args)
            kept = now
        time.sleep(1)
    statuses.update(stop(active))
    show(names, args.work_dir, statuses)
    if args.keep_dir:
        keep(names, args)
    failed = [name for name, status in statuses.items() if status not in (0, STOPPED)]
    if failed:
        print(f"failed: {', '.join(failed)}. Their logs are in {args.work_dir}", flush=True)
        return 1
    return 0 if all(statuses.get(name) == 0 for name in names) else STOPPED


def parse_arguments() -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", required=True, help="JSON file with the runs")
    parser.add_argument("--data_dir", required=True, help="data that t2t-datagen has made")
    parser.add_argument("--work_dir", required=True, type=pathlib.Path, help="folder of the runs")
    parser.add_argument("--parallel", type=int, default=1, help="runs at the same time")
    parser.add_argument("--minutes", type=float, default=10, help="time after which all runs save")
    parser.add_argument("--keep_dir", type=pathlib.Path, help="folder for what is kept of the runs")
    parser.add_argument("--keep_weights", action="store_true", help="keep the best weights, too")
    return parser.parse_args()


def read_plan(path: str) -> list[Run]:
    """Returns the runs of a plan; each name must occur only once."""
    entries: list[dict[str, Any]] = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    runs = [Run(entry["name"], entry["flags"]) for entry in entries]
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SystemExit(f"{path}: several runs are called {', '.join(twice)}, expected one each")
    return runs


def start(run: Run, args: argparse.Namespace) -> subprocess.Popen:
    """Starts or resumes a run; its log is beside its folder."""
    args.work_dir.mkdir(parents=True, exist_ok=True)
    folders = [f"--output_dir={args.work_dir / run.name}", f"--data_dir={args.data_dir}"]
    with open(args.work_dir / f"{run.name}.log", "ab") as log:
        return subprocess.Popen(
            command("t2t-trainer", *run.flags, *folders), stdout=log, stderr=log
        )


def ended(active: dict[str, subprocess.Popen]) -> dict[str, int]:
    """Removes the runs that have ended and returns their statuses."""
    statuses = {name: process.poll() for name, process in active.items()}
    statuses = {name: status for name, status in statuses.items() if status is not None}
    for name in statuses:
        del active[name]
    return statuses


def stop(active: dict[str, subprocess.Popen]) -> dict[str, int]:
    """Asks the runs to save, waits for them, and returns their statuses."""
    for process in active.values():
        process.send_signal(signal.SIGTERM)
    statuses = {}
    deadline = time.monotonic() + GRACE
    for name, process in active.items():
        try:
            statuses[name] = process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            statuses[name] = process.wait()
    return statuses


def show(names: list[str], work_dir: pathlib.Path, statuses: dict[str, int]) -> None:
    """Prints the last figures of each run, a line each."""
    for name in names:
        log = work_dir / name / "metrics.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        last = json.loads(lines[-1]) if lines else {}
        state = {None: "running" if log.exists() else "waiting", 0: "done", STOPPED: "stopped"}
        status = statuses.get(name)
        word = state.get(status, f"failed with status {status}")
        print(f"{name}: {word}, step {last.get('step', 0)}, loss {last.get('loss', '-')}")
    print(flush=True)


def keep(names: list[str], args: argparse.Namespace) -> None:
    """Copies the files to keep of each run."""
    for name in names:
        run, target = args.work_dir / name, args.keep_dir / name
        target.mkdir(parents=True, exist_ok=True)
        for path in [*(run / kept for kept in KEPT), args.work_dir / f"{name}.log"]:
            if path.exists():
                shutil.copy2(path, target)
        if args.keep_weights and (run / "best").exists():
            shutil.rmtree(target / "best", ignore_errors=True)
            shutil.copytree(run / "best", target / "best")


if __name__ == "__main__":
    sys.exit(main())
