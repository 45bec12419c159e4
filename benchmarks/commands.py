"""Runs the package's commands, and reads what they print and log."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys


def command(name: str, *args: str) -> list[str]:
    """Returns the arguments that run a command of the package, given its name or its module's."""
    return [sys.executable, "-m", f"t2t_vqem.bin.{name.replace('-', '_')}", *args]


def run(name: str, *args: str) -> str:
    """Runs a command of the package, prints it and its standard output, and returns the latter."""
    print(f"$ {' '.join([name, *args])}", flush=True)
    done = subprocess.run(command(name, *args), stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, flush=True)
    return done.stdout


def figures(output: str) -> dict[str, str]:
    """Returns the figures in a command's output, where each follows its name."""
    return dict(re.findall(r"(\w+) (-?[\d.]+)", output))


def bleu(output: str) -> tuple[float, str]:
    """Returns the score and the signature in the BLEU line of a command's output."""
    return float(re.search(r"= *([\d.]+)", output)[1]), re.search(r"\((.*)\)", output)[1]


def read_log(output_dir: pathlib.Path | str) -> list[dict]:
    """Returns the figures that a run has logged so far."""
    # Imported here, so that TensorFlow takes no memory while something is measured.
    from t2t_vqem.output_dir import OutputDir
    from t2t_vqem.training.metrics_log import MetricsLog

    return MetricsLog.read(OutputDir(str(output_dir)))


def evaluations(log: list[dict]) -> list[dict]:
    """Returns the evaluations on the dev set among the figures."""
    return [line for line in log if line["kind"] == "eval"]
