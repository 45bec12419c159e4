"""Shows the progress of long work: a progress bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time

_LOG_SECONDS = 10.0
_logger = logging.getLogger(__name__)


class Progress:
    """Counts finished units of work and shows the progress. Use it as a context manager.

    Args:
        description: name of the work.
        total: number of units in all; None if unknown.
        unit: name of the unit, in the plural.
        enabled: if False, nothing is shown.
    """

    def __init__(self, description: str, total: int | None, unit: str, *, enabled: bool = True):
        self._description = description
        self._total = total
        self._unit = unit
        self._enabled = enabled
        self._done = 0
        self._skipped = 0
        self._started = self._shown = time.monotonic()
        self._bar = None
        if enabled and sys.stderr.isatty():
            import tqdm

            self._bar = tqdm.tqdm(
                desc=description, total=total, unit=f" {unit}", unit_scale=True, leave=False
            )

    def advance(self, units: int, *, skipped: bool = False) -> None:
        """Counts finished units. Those that an earlier run finished (`skipped`) do not count
        towards the speed."""
        self._done += units
        self._skipped += units if skipped else 0
        if self._bar is not None:
            if skipped:
                self._bar.initial += units
            self._bar.update(units)
        elif self._enabled and time.monotonic() - self._shown >= _LOG_SECONDS:
            self._shown = time.monotonic()
            self._log()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._enabled and kind is None:
            self._log()

    def _log(self) -> None:
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self._done - self._skipped) / seconds
        of = "" if self._total is None else f" of {self._total:,}"
        left = ""
        if self._total is not None and 0 < self._done < self._total and rate:
            left = f", {(self._total - self._done) / rate:.0f} s left"
        _logger.info(
            "%s: %s%s %s, %s/s%s",
            self._description,
            f"{self._done:,}",
            of,
            self._unit,
            f"{rate:,.0f}",
            left,
        )
