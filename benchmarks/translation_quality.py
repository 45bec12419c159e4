"""Quality on Multi30k English-German: one command each for data, training and decoding.

    pip install matplotlib
    python benchmarks/translation_quality.py --source_dir=multi30k --work_dir=runs \\
        --results=benchmarks/results/translation_quality.md

--source_dir holds the published files, {train,val,test_2016_flickr}.{en,de}, plain or gzip. The
training time is the one that the run logged, with compilation and evaluations. The test set is
translated by the last checkpoint within --minutes and by the last one of all. Started again, the
script keeps what is finished and continues an unfinished training.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import time

from commands import evaluations, read_log, run
from report import header, pyplot, save, write

PROBLEM = "translate_ende_multi30k"
HPARAMS_SET = "transformer_multi30k"


def checkpoints(output_dir: pathlib.Path, log: list[dict], minutes: float) -> dict[int, float]:
    """Returns the steps of the checkpoints to measure, and the minutes of training up to each."""
    taken = {line["step"]: line["seconds"] / 60 for line in log}
    names = [path.stem for path in (output_dir / "checkpoints").glob("ckpt-*.index")]
    kept = {step: taken[step] for step in sorted(int(name.split("-")[1]) for name in names)}
    within = max((step for step, time in kept.items() if time <= minutes), default=max(kept))
    return {step: kept[step] for step in sorted({within, max(kept)})}


def decode(output_dir: pathlib.Path, source: pathlib.Path, args: list[str]) -> tuple[str, float]:
    """Translates the test set with some options; returns a cell with scores, and the seconds."""
    target = source.with_name(source.name.replace(".en", ".de"))
    to_file = output_dir / "test.de"
    started = time.monotonic()
    output = run(
        "t2t-decoder",
        f"--output_dir={output_dir}",
        f"--decode_from_file={source}",
        f"--decode_to_file={to_file}",
        f"--score_file={target}",
        *args,
    )
    scores = [line for line in output.splitlines() if re.search(r"BLEU|chrF", line)]
    cell = "<br>".join(scores).replace("|", "\\|")
    return cell, time.monotonic() - started


def curve(log: list[dict]) -> list[str]:
    """Returns the section on quality over time, and on the time spent waiting for data."""
    waiting = [line["wait_share"] for line in log if line["kind"] == "train"]
    share = 100 * sum(waiting) / len(waiting)
    return [
        "",
        "## Curve (dev, greedy)",
        "",
        "| step | minutes | loss | accuracy | sacreBLEU |",
        "|---|---|---|---|---|",
        *(
            f"| {line['step']} | {line['seconds'] / 60:.1f} | {line['loss']:.3f} | "
            f"{line['accuracy']:.3f} | {line['bleu']:.2f} |"
            for line in evaluations(log)
        ),
        "",
        f"Share of time that training waited for data: {share:.2f} %.",
    ]


def plot(measured: list[dict], path: pathlib.Path) -> None:
    """Plots BLEU on the dev set over minutes of training."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7, 3.5))
    minutes = [line["seconds"] / 60 for line in measured]
    axes.plot(minutes, [line["bleu"] for line in measured], marker="o")
    axes.set(xlabel="minutes of training", ylabel="sacreBLEU, dev, greedy")
    axes.grid(alpha=0.3)
    save(figure, path)


def main() -> None:
    """Runs the three commands and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source_dir", required=True, help="Folder of the published files.")
    parser.add_argument("--work_dir", required=True, help="Folder for data and run.")
    parser.add_argument("--train_steps", type=int, default=15_000, help="Updates.")
    parser.add_argument(
        "--minutes",
        type=float,
        default=45,
        help="Also measure the last checkpoint within these minutes of training.",
    )
    parser.add_argument("--results", help="Markdown file to write; the plot is written beside it.")
    args = parser.parse_args()
    source_dir, work_dir = pathlib.Path(args.source_dir), pathlib.Path(args.work_dir)
    data_dir, output_dir = work_dir / "data", work_dir / "multi30k"

    run(
        "t2t-datagen",
        f"--problem={PROBLEM}",
        f"--source_dir={source_dir}",
        f"--data_dir={data_dir}",
    )
    run(
        "t2t-trainer",
        f"--problem={PROBLEM}",
        "--model=transformer",
        f"--hparams_set={HPARAMS_SET}",
        f"--data_dir={data_dir}",
        f"--output_dir={output_dir}",
        f"--train_steps={args.train_steps}",
        "--local_eval_frequency=1500",
    )
    source = next(
        path
        for name in ("test_2016_flickr.en", "test_2016_flickr.en.gz")
        if (path := source_dir / name).exists()
    )
    log = read_log(output_dir)
    lines = header("Quality on Multi30k English-German", ["t2t-vqem", "tensorflow", "sacrebleu"])
    lines += [
        f"Set `{HPARAMS_SET}`, {args.train_steps} steps, "
        f"{max(line['seconds'] for line in log) / 60:.1f} minutes of training on "
        f"{os.cpu_count()} logical CPUs, with evaluations.",
        "",
        "## Test set 2016 (1,000 sentences)",
        "",
        "| step | minutes | decoding | sacreBLEU and chrF with signature | seconds, with "
        "compilation |",
        "|---|---|---|---|---|",
    ]
    for step, minutes in checkpoints(output_dir, log, args.minutes).items():
        checkpoint = f"--checkpoint={output_dir / 'checkpoints' / f'ckpt-{step}'}"
        for name, options in (("greedy", []), ("beam 4, alpha 0.6", ["--beam_size=4"])):
            scores, seconds = decode(output_dir, source, [checkpoint, *options])
            lines.append(f"| {step} | {minutes:.1f} | {name} | {scores} | {seconds:.0f} |")
    lines += curve(log)
    if args.results:
        picture = pathlib.Path(args.results).with_suffix(".svg")
        plot(evaluations(log), picture)
        lines += ["", f"![BLEU over time]({picture.name})"]
    write(lines, args.results)


if __name__ == "__main__":
    main()
