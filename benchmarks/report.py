"""The header of every results file (date, machine, versions, command), and plots."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def processor() -> str:
    """Returns the name of the processor and the number of cores that this process may use."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    features = next((line for line in lines if line.startswith("flags")), "").split()
    extras = [name for name in ("avx2", "avx512f", "amx_tile") if name in features]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} logical CPUs" + (f" ({', '.join(extras)})" if extras else "")


def header(title: str, packages: Sequence[str]) -> list[str]:
    """Returns the first lines of a results file.

    Args:
      title: title of the measurement.
      packages: distributions whose versions matter to it.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    command = shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])
    return [
        f"# {title}",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- machine: {processor()}, {platform.system()}",
        f"- versions: Python {platform.python_version()}, {', '.join(versions)}",
        f"- command: `{command}`",
        "",
    ]


def write(lines: Sequence[str], path: str | None) -> None:
    """Prints the report and, if a path is given, writes it there."""
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if path:
        pathlib.Path(path).write_text(text, encoding="utf-8")


def pyplot() -> Any:
    """Returns matplotlib's pyplot, configured to draw the same file from the same figures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "t2t-vqem"
    return plt


def plot_over_steps(
    titles: Mapping[str, str],
    curves: Sequence[tuple[Sequence[Mapping[str, Any]], dict[str, Any]]],
    path: pathlib.Path,
) -> None:
    """Plots figures over the training steps, side by side.

    Args:
      titles: name of each figure -> its title.
      curves: for each run its evaluations, each with "step" and the figures, and the style of its
        line, as arguments of matplotlib's `plot`.
      path: file to write.
    """
    drawn, axes = pyplot().subplots(1, len(titles), figsize=(11, 3.5))
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        for log, style in curves:
            steps = [line["step"] for line in log]
            axis.plot(steps, [line[name] for line in log], marker=".", **style)
        axis.set(xlabel="step", title=title)
        axis.grid(alpha=0.3)
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    save(drawn, path)


def save(figure: Any, path: pathlib.Path) -> None:
    """Writes a figure of `pyplot` without the date, so that the file does not change."""
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
