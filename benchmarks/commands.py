"""Runs the package's commands, and reads what they logged."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys


def run(command: str, *args: str) -> str:
    """Runs a command of the package, shows it and what it says, and returns its standard output."""
    shown = " ".join([command, *args])
    print(f"$ {shown}", flush=True)
    module = f"t2t_vqem.bin.{command.replace('-', '_')}"
    done = subprocess.run(
        [sys.executable, "-m", module, *args], stdout=subprocess.PIPE, text=True, check=True
    )
    print(done.stdout, flush=True)
    return done.stdout


def read_log(output_dir: pathlib.Path | str) -> list[dict]:
    """Returns the figures that a run logged."""
    lines = pathlib.Path(output_dir, "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def evaluations(log: list[dict]) -> list[dict]:
    """Returns the evaluations on the dev set among the figures."""
    return [line for line in log if line["kind"] == "eval"]
