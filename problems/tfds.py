"""Settings of the problems that take a data set of TensorFlow Datasets by its name."""

from __future__ import annotations

import dataclasses

from t2t_vqem.constants import DEV, TEST, TRAIN, UsageError
from t2t_vqem.data.tfds import find_tfds
from t2t_vqem.fields import Config, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsConfig(Config):
    """Which data set, and which of its splits."""

    name: str = option("", "name and configuration in TFDS: wmt16_translate/de-en, mnist")
    train_split: str = option("train", "split to train on, or a part of one: train[:95%]")
    dev_split: str = option("validation", "split to choose checkpoints by: train[95%:]")
    test_split: str = option("test", "split to test on")

    @property
    def splits(self) -> dict[str, str]:
        """TFDS's name of each split."""
        return {TRAIN: self.train_split, DEV: self.dev_split, TEST: self.test_split}

    def find(self, tfds_dir: str | None) -> str:
        """Returns the folder of the data set, which is downloaded if `tfds_dir` is None.

        Raises:
            UsageError: no name is given, or there is no such data set.
        """
        if not self.name:
            raise UsageError(
                "name is missing, the name of a data set of TFDS: give it with "
                "--problem_params=name=wmt16_translate/de-en or name=mnist, for example."
            )
        return find_tfds(tfds_dir, self.name)
