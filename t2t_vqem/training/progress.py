"""Shows the progress of training: a progress bar on a terminal, log lines elsewhere."""

import datetime
import logging
import sys
from collections.abc import Mapping

import tqdm

_logger = logging.getLogger(__name__)


class TrainingProgress:
    """Shows step, loss, throughput, the share of time spent waiting for data, and the time left.

    Attributes:
        unit: the unit of throughput: "tokens" or "images".
        unit_weight: the weight that one unit has in the loss.
    """

    def __init__(
        self,
        *,
        start_step: int,
        train_steps: int,
        unit: str = "tokens",
        unit_weight: int = 1,
        is_chief: bool = True,
    ):
        """Shows an empty bar on a terminal. Workers other than the chief never show anything."""
        self.unit, self.unit_weight = unit, unit_weight
        self._train_steps = train_steps
        self._is_chief = is_chief
        self._bar = None
        if is_chief and sys.stderr.isatty():
            self._bar = tqdm.tqdm(
                total=train_steps, initial=start_step, unit="step", dynamic_ncols=True, leave=False
            )

    def advance(self) -> None:
        """Counts one update."""
        if self._bar is not None:
            self._bar.update()

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        """Shows the metrics of the updates since the last call.

        Args:
            step: number of updates applied.
            figures: values of "loss", "{unit}_per_second", "wait_share" and "steps_per_second".
        """
        if not self._is_chief:
            return
        parts = [
            f"loss {figures['loss']:.3f}",
            f"{figures[f'{self.unit}_per_second']:,.0f} {self.unit}/s",
            f"waiting for data {figures['wait_share']:.1%}",
        ]
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(parts))
            return
        seconds = (self._train_steps - step) / figures["steps_per_second"]
        left = datetime.timedelta(seconds=round(seconds))
        _logger.info("step %d of %d: %s, %s left", step, self._train_steps, ", ".join(parts), left)

    def say(self, message: str) -> None:
        """Shows a message without disturbing the bar."""
        if self._bar is not None:
            self._bar.write(message, file=sys.stderr)
        elif self._is_chief:
            _logger.info("%s", message)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
