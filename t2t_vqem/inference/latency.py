"""Measures the latency of translating single sentences."""

import statistics
import time
from collections.abc import Sequence

from t2t_vqem.inference.batching import length_bucket
from t2t_vqem.inference.translate import Translator


def milliseconds_each(translator: Translator, lines: Sequence[str]) -> float:
    """Translates lines one at a time, from text to text, and returns the median in milliseconds.

    All lines are translated twice, and only the second pass is measured, so the time does not
    include compilation.
    """
    times = []
    for _ in range(2):
        times = []
        for line in lines:
            started = time.perf_counter()
            for _ in translator.translate([line]):
                pass
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def usual_lines(lines: Sequence[str], lengths: Sequence[int], count: int) -> list[str]:
    """Returns the first lines of the most frequent padded length, which need one compiled shape.

    Args:
      lines: source text.
      lengths: number of ids of each line, with EOS.
      count: the largest number of lines to return.
    """
    buckets = [length_bucket(length) for length in lengths]
    usual = statistics.mode(buckets)
    chosen = [line for line, bucket in zip(lines, buckets, strict=True) if bucket == usual]
    return chosen[:count]
