"""Writes the figures of a run: JSON lines for programs, summaries for TensorBoard."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from t2t_vqem.output_dir import OutputDir, write_file

METRICS = "metrics.jsonl"
# What tf.summary.scalar writes beside a number; that function itself needs TensorBoard installed.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
    data_class="DATA_CLASS_SCALAR",
)
TRAIN = "train"
EVAL = "eval"


class MetricsLog:
    """Appends figures to `metrics.jsonl` and to the summaries in train/ and eval/.

    Each line is one JSON object: "kind" ("train" or "eval"), "step", "seconds" (how long the run
    has taken so far, over all its starts) and the figures.
    """

    def __init__(self, output_dir: OutputDir, *, start_step: int, is_chief: bool):
        """Opens the log of a run that goes on from `start_step`.

        Figures of later steps, from before a kill, are dropped: these steps come again.

        Args:
            output_dir: folder of the run.
            start_step: updates applied so far.
            is_chief: whether this process writes; the others only read what there is.
        """
        self._is_chief = is_chief
        self._output_dir = output_dir
        self._path = output_dir.join(METRICS)
        lines = [line for line in self.read(output_dir) if line["step"] <= start_step]
        if is_chief:
            content = "".join(json.dumps(line) + "\n" for line in lines)
            os.makedirs(output_dir.path, exist_ok=True)
            write_file(self._path, content.encode())
        self._evaluated = {line["step"] for line in lines if line["kind"] == EVAL}
        self._started = time.monotonic() - max((line["seconds"] for line in lines), default=0.0)
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    @staticmethod
    def read(output_dir: OutputDir) -> list[dict[str, Any]]:
        """Returns what was logged in a folder; a line that a kill cut off is left out."""
        path = output_dir.join(METRICS)
        if not os.path.exists(path):
            return []
        result = []
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    result.append(json.loads(line))
                except ValueError:
                    break
        return result

    @property
    def seconds(self) -> float:
        """How long the run has taken so far, over all its starts."""
        return time.monotonic() - self._started

    def has_evaluation(self, step: int) -> bool:
        """Returns whether an evaluation of that step was logged."""
        return step in self._evaluated

    def write(
        self, kind: str, step: int, figures: Mapping[str, float], **notes: str | None
    ) -> None:
        """Logs figures.

        Args:
            kind: `TRAIN` or `EVAL`.
            step: updates applied.
            figures: numbers by name; these go to TensorBoard, too.
            **notes: texts by name.
        """
        if kind == EVAL:
            self._evaluated.add(step)
        if not self._is_chief:
            return
        line = {"kind": kind, "step": step, "seconds": round(self.seconds, 3), **figures, **notes}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if kind not in self._writers:
            self._writers[kind] = tf.summary.create_file_writer(self._output_dir.join(kind))
        with self._writers[kind].as_default(step=step):
            for name, value in figures.items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=_SCALAR)
        self._writers[kind].flush()

    def close(self) -> None:
        """Closes the summaries."""
        for writer in self._writers.values():
            writer.close()
