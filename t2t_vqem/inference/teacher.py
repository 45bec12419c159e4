"""A trained run as the teacher, which translates the training sources of its own problem."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from t2t_vqem.capabilities import check_fits
from t2t_vqem.constants import UsageError
from t2t_vqem.data import building
from t2t_vqem.data.text_source import hash_file
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.metrics.bleu import choose_tokenizer
from t2t_vqem.output_dir import OutputDir, checkpoint_hash, checkpoint_step
from t2t_vqem.text_problem import TextDataset

Engine = Callable[[OutputDir, DecodeOptions], tuple[Callable[..., Any], dict[str, Any]]]


class Teacher:
    """A trained run, its training data, and its decoding options.

    Attributes:
        dataset: the data that the run was trained on.
        checkpoint: path of the weights.
        max_length: the largest number of ids of a source that the model reads, including EOS.
    """

    def __init__(
        self,
        output_dir: str,
        checkpoint: str | None,
        dataset: TextDataset,
        options: DecodeOptions,
        engine: Engine,
    ):
        """Finds the checkpoint and checks the data, without loading the model.

        Args:
            output_dir: the run's folder.
            checkpoint: as in `OutputDir.find_checkpoint`.
            dataset: the data that the run was trained on, with the sources to translate.
            options: the decoding options.
            engine: (run, options) -> a function that loads a translator of the run, and everything
                that its translations depend on, as JSON.

        Raises:
            UsageError: the run or checkpoint does not exist, or was trained on other data.
        """
        self.dataset = dataset
        self._run = OutputDir(output_dir)
        self._check_fits()
        self.checkpoint = self._run.find_checkpoint(checkpoint)
        self.max_length = self._run.hparams().max_length
        self._weights = checkpoint_hash(self.checkpoint)
        self._options = options
        self._load, self._settings = engine(self._run, options)

    def _check_fits(self) -> None:
        run, manifest = self._run.settings(), self.dataset.manifest
        folder, problem = self.dataset.directory, self.dataset.problem
        if run.problem != problem.name:
            raise UsageError(
                f"the teacher in {self._run.path} was trained on {run.problem}: expected a run of "
                f"{problem.name}, because it must translate the training sources of that problem."
            )
        check_fits(problem, run.hparams.model)
        remedy = (
            f"Use the --data_dir that it was trained with, {run.data_dir}, or train a teacher on "
            f"the data in {os.path.dirname(folder)}."
        )
        vocabulary = manifest["vocabulary"]["sha256"]
        if run.vocabulary != vocabulary:
            raise UsageError(
                f"the vocabulary of the teacher in {self._run.path} is not that of {folder}: its "
                f"hash is {str(run.vocabulary)[:12]}, expected {vocabulary[:12]}. {remedy}"
            )
        if run.data_source != manifest["source"]:
            raise UsageError(
                f"the teacher in {self._run.path} was trained on other text than that in {folder}: "
                f"{run.data_source}, expected {manifest['source']}. {remedy}"
            )

    def fingerprint(self) -> dict[str, str]:
        """Returns hashes that change with the weights and the data."""
        manifest = os.path.join(self.dataset.directory, building.MANIFEST)
        return {"teacher weights": self._weights, "teacher data": hash_file(manifest)}

    @property
    def bleu_tokenizer(self) -> str:
        """sacreBLEU's tokenizer for the translations, as in the evaluations of the run."""
        name = self._run.hparams().bleu_tokenizer
        return choose_tokenizer(name, self.dataset.problem.target_language)

    def translator(self) -> Any:
        """Loads the model with its weights; the result has the interface of `Translator`."""
        return self._load(self._run, self.checkpoint, self._options)

    def to_json(self) -> dict[str, Any]:
        """Returns the origin of the weights, and the decoding options."""
        run = self._run.settings()
        return {
            "problem": run.problem,
            "model": run.hparams.model,
            "hparams_set": run.hparams_set,
            "step": checkpoint_step(self.checkpoint),
            "weights": self._weights,
            "decoding": {**dataclasses.asdict(self._options), **self._settings},
        }
