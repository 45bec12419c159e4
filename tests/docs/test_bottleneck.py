"""The examples in docs/bottleneck.md run as they are printed there, in one process."""

import pathlib
import re
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "bottleneck.md"


@pytest.mark.slow
def test_example_runs_and_learns(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    example = "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    error, variance = re.findall(r"(\d\.\d+)", done.stdout.splitlines()[-1])
    assert float(error) < 0.25 * float(variance), done.stdout[-1000:]
    perplexity = re.findall(r"codes_perplexity: ([\d.]+)", done.stdout)
    assert float(perplexity[-1]) > 30, done.stdout[-1000:]
    for name in re.findall(r"^\| `(codes_\w+)`", PAGE.read_text("utf-8"), re.M):
        assert f"{name}: " in done.stdout
