"""How long a sentence takes that comes alone."""

import statistics
import time
from collections.abc import Sequence

from t2t_vqem.inference.batching import length_bucket
from t2t_vqem.inference.translate import Translator


def milliseconds_each(translator: Translator, lines: Sequence[str]) -> float:
    """Translates lines one at a time, from text to text, and returns the median of milliseconds.

    All are translated twice, and the second time is timed, so that no compilation is.
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
    """Returns the first lines of the most usual length, which need one compiled shape.

    Args:
      lines: source text.
      lengths: their ids with EOS.
      count: of lines, at most.
    """
    buckets = [length_bucket(length) for length in lengths]
    usual = statistics.mode(buckets)
    chosen = [line for line, bucket in zip(lines, buckets, strict=True) if bucket == usual]
    return chosen[:count]
