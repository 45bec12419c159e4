"""A trained run as the teacher that translates the training sources of its own problem."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from t2t_vqem.capabilities import check_fits
from t2t_vqem.constants import UsageError
from t2t_vqem.data import building
from t2t_vqem.data.text_source import hash_file
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.inference.translate import Translator, load_translator
from t2t_vqem.metrics.bleu import choose_tokenizer
from t2t_vqem.output_dir import OutputDir, checkpoint_hash, checkpoint_step
from t2t_vqem.text_problem import TextDataset


class Teacher:
    """A trained run, the data that it was trained on, and how it is to translate.

    Attributes:
        dataset: what it was trained on.
        checkpoint: path of the weights.
        max_length: ids of a source, with EOS, that the model reads.
    """

    def __init__(
        self,
        output_dir: str,
        checkpoint: str | None,
        dataset: TextDataset,
        options: DecodeOptions,
        **settings: Any,
    ):
        """Finds the checkpoint and checks the data; the model is loaded when it is needed.

        Args:
            output_dir: the run's folder.
            checkpoint: as in `OutputDir.find_checkpoint`.
            dataset: what it was trained on, whose training sources it is to translate.
            options: how to search.
            **settings: of `Translator`: batch_tokens, xla.

        Raises:
            UsageError: there is no such run or checkpoint, or it was trained on other data.
        """
        self.dataset = dataset
        self._run = OutputDir(output_dir)
        self._check_fits()
        self.checkpoint = self._run.find_checkpoint(checkpoint)
        self.max_length = self._run.hparams().max_length
        self._weights = checkpoint_hash(self.checkpoint)
        self._options = options
        self._settings = settings

    def _check_fits(self) -> None:
        run, manifest = self._run.settings(), self.dataset.manifest
        folder, problem = self.dataset.directory, self.dataset.problem
        if run.problem != problem.name:
            raise UsageError(
                f"the teacher in {self._run.path} was trained on {run.problem}, expected a run of "
                f"{problem.name}, whose training sources it is to translate."
            )
        check_fits(problem, run.hparams.model)
        remedy = (
            f"Use the --data_dir that it was trained from, {run.data_dir}, or train a teacher on "
            f"the data in {os.path.dirname(folder)}."
        )
        vocabulary = manifest["vocabulary"]["sha256"]
        if run.vocabulary != vocabulary:
            raise UsageError(
                f"the vocabulary of the teacher in {self._run.path} is not that of {folder} (its "
                f"hash is {str(run.vocabulary)[:12]}, expected {vocabulary[:12]}), so that ids "
                f"would mean other pieces. {remedy}"
            )
        if run.data_source != manifest["source"]:
            raise UsageError(
                f"the teacher in {self._run.path} was trained on other text than {folder} is made "
                f"from: {run.data_source}, expected {manifest['source']}. {remedy}"
            )

    def fingerprint(self) -> dict[str, str]:
        """Returns hashes that change when the weights or the data do."""
        manifest = os.path.join(self.dataset.directory, building.MANIFEST)
        return {"teacher weights": self._weights, "teacher data": hash_file(manifest)}

    @property
    def bleu_tokenizer(self) -> str:
        """sacreBLEU's tokenizer for its translations, as in its own evaluations."""
        name = self._run.hparams().bleu_tokenizer
        return choose_tokenizer(name, self.dataset.problem.target_language)

    def translator(self) -> Translator:
        """Returns the model with its weights."""
        return load_translator(self._run, self.checkpoint, self._options, **self._settings)

    def to_json(self) -> dict[str, Any]:
        """Returns where the weights come from, and how it translates."""
        run = self._run.settings()
        return {
            "problem": run.problem,
            "model": run.hparams.model,
            "hparams_set": run.hparams_set,
            "step": checkpoint_step(self.checkpoint),
            "weights": self._weights,
            "decoding": {**dataclasses.asdict(self._options), **self._settings},
        }
