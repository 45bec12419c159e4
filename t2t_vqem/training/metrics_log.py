"""Writes the metrics and images of a run: JSON lines for programs, summaries for TensorBoard."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_vqem.files import write_file
from t2t_vqem.inference.image_files import encode_png
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.training.hparams_summary import write_hparams
from t2t_vqem.training.trackers import Trackers

METRICS = "metrics.jsonl"
TRAIN = "train"
EVAL = "eval"


def _metadata(plugin_name: str, data_class: str) -> tf.compat.v1.SummaryMetadata:
    """Returns the metadata that tf.summary.scalar and similar functions write with a value.

    Those functions themselves need TensorBoard to be installed.
    """
    return tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name=plugin_name),
        data_class=data_class,
    )


_SCALAR = _metadata("scalars", "DATA_CLASS_SCALAR")
_IMAGE = _metadata("images", "DATA_CLASS_BLOB_SEQUENCE")
_HISTOGRAM = _metadata("histograms", "DATA_CLASS_TENSOR")


def _parse(line: bytes) -> dict[str, Any] | None:
    """Returns the values of a line of the log; None if the line is invalid."""
    try:
        values = json.loads(line)
        whole = values["kind"] in (TRAIN, EVAL) and values["seconds"] >= 0
        return values if whole and isinstance(values["step"], int) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


class MetricsLog:
    """Appends metrics to `metrics.jsonl` and to the summaries in train/ and eval/.

    Each line is one JSON object: "kind" ("train" or "eval"), "step", "seconds" (the duration of the
    run so far, including the time before restarts) and the metrics.
    """

    def __init__(
        self,
        output_dir: OutputDir,
        *,
        start_step: int,
        is_chief: bool,
        trackers: Trackers | None = None,
    ):
        """Opens the log of a run that continues from `start_step`.

        Metrics of later steps, written before a kill, are dropped: these steps are repeated.

        Args:
            output_dir: folder of the run.
            start_step: number of updates applied so far.
            is_chief: whether this process writes. Other processes only read the existing log.
            trackers: experiment trackers, which get the metrics too.
        """
        self._trackers = trackers
        self._is_chief = is_chief
        self._output_dir = output_dir
        self._path = output_dir.join(METRICS)
        lines = [line for line in self.read(output_dir) if line["step"] <= start_step]
        if is_chief:
            content = "".join(json.dumps(line) + "\n" for line in lines)
            os.makedirs(output_dir.path, exist_ok=True)
            write_file(self._path, content.encode())
        self._evaluations = {line["step"]: line for line in lines if line["kind"] == EVAL}
        self._started = time.monotonic() - max((line["seconds"] for line in lines), default=0.0)
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    @staticmethod
    def read(output_dir: OutputDir) -> list[dict[str, Any]]:
        """Returns the lines of a run's log, without truncated or damaged lines."""
        path = output_dir.join(METRICS)
        if not os.path.exists(path):
            return []
        with open(path, "rb") as file:
            return [line for line in map(_parse, file) if line]

    @property
    def seconds(self) -> float:
        """Duration of the run so far, including the time before restarts."""
        return time.monotonic() - self._started

    def has_evaluation(self, step: int) -> bool:
        """Returns whether an evaluation of this step was logged."""
        return step in self._evaluations

    def evaluations(self) -> list[Mapping[str, Any]]:
        """Returns the figures of the run's evaluations so far, in the order of their steps."""
        return [self._evaluations[step] for step in sorted(self._evaluations)]

    def write(
        self, kind: str, step: int, figures: Mapping[str, float], **notes: str | None
    ) -> None:
        """Logs metrics.

        Args:
            kind: `TRAIN` or `EVAL`.
            step: number of updates applied.
            figures: numbers by name, which also go to TensorBoard.
            **notes: texts by name.
        """
        if kind == EVAL:
            self._evaluations[step] = figures
        if not self._is_chief:
            return
        line = {"kind": kind, "step": step, "seconds": round(self.seconds, 3), **figures, **notes}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        writer = self._writer(kind)
        # NumPy numbers, because TensorFlow caches a tensor for every Python number forever.
        with writer.as_default(step=np.int64(step)):
            for name, value in figures.items():
                tf.summary.write(name, tf.constant(np.float32(value)), metadata=_SCALAR)
        writer.flush()
        if self._trackers:
            self._trackers.write(kind, step, figures)

    def write_hparams(self, values: Mapping[str, float | str]) -> None:
        """Writes the hyperparameters for TensorBoard, which has a table of runs with them."""
        if self._is_chief:
            write_hparams(self._writer(""), values)

    def write_pictures(
        self,
        kind: str,
        step: int,
        images: Mapping[str, np.ndarray],
        histograms: Mapping[str, np.ndarray],
    ) -> None:
        """Writes images and histograms, only for TensorBoard.

        Args:
            kind: `TRAIN` or `EVAL`.
            step: number of updates applied.
            images: uint8 [height, width, channels] by name.
            histograms: float64 [buckets, 3] by name: left edge, right edge and count of a bucket.
        """
        if not self._is_chief:
            return
        writer = self._writer(kind)
        with writer.as_default(step=np.int64(step)):
            for name, image in images.items():
                height, width = map(str, image.shape[:2])
                parts = tf.constant([width.encode(), height.encode(), encode_png(image)])
                tf.summary.write(name, parts, metadata=_IMAGE)
            for name, buckets in histograms.items():
                tf.summary.write(name, tf.constant(buckets, tf.float64), metadata=_HISTOGRAM)
        writer.flush()

    def _writer(self, kind: str) -> tf.summary.SummaryWriter:
        if kind not in self._writers:
            self._writers[kind] = tf.summary.create_file_writer(self._output_dir.join(kind))
        return self._writers[kind]

    def close(self) -> None:
        """Closes the files of the summaries, and the trackers."""
        for writer in self._writers.values():
            writer.close()
        if self._trackers:
            self._trackers.close()
