"""Measures the time to start training, at step 0 and at step 100,000 of a large data set.

    python benchmarks/resume_cost.py --text_dir=multi30k --work_dir=runs/resume \\
        --results=benchmarks/results/resume_cost.md

Makes as many pairs of sentences as WMT'14 has (real ones of --text_dir with some words swapped),
and starts t2t-trainer in a new folder and in one with a checkpoint of step 100,000. The measured
time is from the start of the process to the metrics of the first update. The two kinds of start
alternate. The small model and --noxla keep the common work small; most of the remaining time is
importing TensorFlow.
"""

from __future__ import annotations

import argparse
import functools
import os
import pathlib
import shutil
import statistics
import subprocess
import time

from commands import command
from datagen_speed import write_text
from report import header, write

POSITIONS = (0, 100_000)
POLL = 0.01  # seconds
NUM_PAIRS = 4_500_000


def prepare(text_dir: str, work_dir: pathlib.Path, num_pairs: int) -> pathlib.Path:
    """Makes text and data, unless they exist; returns the folder of the data."""
    text, data_dir = work_dir / "text", work_dir / "data"
    if not text.exists():
        partial = work_dir / "text.partial"
        shutil.rmtree(partial, ignore_errors=True)
        work_dir.mkdir(parents=True, exist_ok=True)
        write_text(partial, text_dir, num_pairs)
        partial.rename(text)
    words = ["--problem=translate_text", "--problem_params=vocab_size=8000"]
    words += [f"--source_dir={text}", f"--data_dir={data_dir}"]
    subprocess.run(command("t2t_datagen", *words), check=True)
    return data_dir


def trainer(data_dir: pathlib.Path, output_dir: pathlib.Path, train_steps: int) -> list[str]:
    """Returns the command that trains up to a step."""
    return command(
        "t2t_trainer",
        "--problem=translate_text",
        "--hparams_set=transformer_tiny",
        "--hparams=batch_size=4096,num_buckets=8",
        f"--data_dir={data_dir}",
        f"--output_dir={output_dir}",
        f"--train_steps={train_steps}",
        "--schedule=train",
        "--noxla",
    )


def move_to(output_dir: pathlib.Path, step: int) -> None:
    """Saves the run's last checkpoint as that of a later step."""
    import tensorflow as tf

    from t2t_vqem.output_dir import OutputDir, make_model
    from t2t_vqem.training.checkpoints import Checkpoints
    from t2t_vqem.training.state import TrainState

    run = OutputDir(str(output_dir))
    settings = run.settings()
    make = functools.partial(make_model, settings.hparams, run.problem(), run.vocabulary())
    state = TrainState(tf.distribute.get_strategy(), make, settings.hparams, seed=settings.seed)
    checkpoints = Checkpoints(run, state, keep=10, is_chief=True)
    checkpoints.restore()
    checkpoints.save(step)


def first_step(data_dir: pathlib.Path, output_dir: pathlib.Path, position: int) -> float:
    """Starts training for one update; returns the seconds until its figures were logged."""
    log = output_dir / "metrics.jsonl"
    size = log.stat().st_size if log.exists() else 0
    started = time.perf_counter()
    process = subprocess.Popen(trainer(data_dir, output_dir, position + 1))
    while process.poll() is None and not (log.exists() and log.stat().st_size > size):
        time.sleep(POLL)
    seconds = time.perf_counter() - started
    if process.wait():
        raise SystemExit(f"training in {output_dir} ended with {process.returncode}")
    return seconds


def measure(data_dir: pathlib.Path, work_dir: pathlib.Path, position: int) -> float:
    """Times one start at a step, in a folder of its own."""
    output_dir = work_dir / "run"
    shutil.rmtree(output_dir, ignore_errors=True)
    if position:
        subprocess.run(trainer(data_dir, output_dir, 1), check=True)
        move_to(output_dir, position)
    return first_step(data_dir, output_dir, position)


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text_dir", required=True, help="Folder with train.en and train.de.")
    parser.add_argument("--work_dir", required=True, help="Folder for text, data and runs.")
    parser.add_argument("--num_pairs", type=int, default=NUM_PAIRS, help="Pairs to train on.")
    parser.add_argument("--rounds", type=int, default=5, help="Starts at each step.")
    parser.add_argument("--results", help="Markdown file to write.")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    work_dir = pathlib.Path(args.work_dir)
    data_dir = prepare(args.text_dir, work_dir, args.num_pairs)
    seconds: dict[int, list[float]] = {position: [] for position in POSITIONS}
    for round_ in range(args.rounds + 1):
        for position in POSITIONS:
            took = measure(data_dir, work_dir, position)
            print(f"round {round_}, from step {position}: {took:.2f} s", flush=True)
            if round_:  # the first round fills the file cache
                seconds[position].append(took)
    lines = header("What resuming costs", ["t2t-vqem", "tensorflow", "array-record", "numpy"])
    lines += [
        f"{args.num_pairs:,} pairs of sentences. Seconds from the start of t2t-trainer to the "
        f"figures of its first update, {args.rounds} starts each, in alternation.",
        "",
        "| starts at step | median | fastest to slowest |",
        "|--:|--:|--:|",
    ]
    for position, took in seconds.items():
        spread = f"{min(took):.2f} to {max(took):.2f}"
        lines.append(f"| {position:,} | {statistics.median(took):.2f} | {spread} |")
    medians = [statistics.median(took) for took in seconds.values()]
    lines += ["", f"Difference of the medians: {medians[1] - medians[0]:+.2f} s."]
    write(lines, args.results)


if __name__ == "__main__":
    main()
