"""Loads a run's model for export, from any checkpoint, in float32."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from t2t_vqem import capabilities
from t2t_vqem.capabilities import ScoringModel
from t2t_vqem.constants import UsageError
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.export.graphs import in_float32
from t2t_vqem.output_dir import OutputDir, checkpoint_hash, checkpoint_step, make_model


class LoadedRun(NamedTuple):
    """A run with the weights of one checkpoint."""

    run: OutputDir
    model: Any  # built, in float32
    vocabulary: Vocabulary | None  # None for a run of images
    checkpoint: str  # path

    def weights(self) -> dict[str, Any]:
        """Returns checkpoint, step and hash of the weights."""
        return {
            "checkpoint": os.path.relpath(self.checkpoint, self.run.path),
            "step": checkpoint_step(self.checkpoint),
            "sha256": checkpoint_hash(self.checkpoint),
        }


def load_run(run: OutputDir, checkpoint: str | None = None) -> LoadedRun:
    """Builds the model of a run in float32 and restores its weights.

    Args:
        run: the run.
        checkpoint: as in `OutputDir.find_checkpoint`.
    """
    vocabulary = run.vocabulary()
    model = make_model(in_float32(run.hparams()), run.problem(), vocabulary)
    model.build_variables()
    return LoadedRun(run, model, vocabulary, run.restore_for_inference(model, checkpoint))


def load_rescorer(
    folder: str, vocabulary: Vocabulary, num_candidates: int | None = None
) -> LoadedRun:
    """Loads the run that chooses among candidates, after `check_rescorer`."""
    return load_run(check_rescorer(folder, vocabulary, num_candidates))


def check_rescorer(
    folder: str, vocabulary: Vocabulary, num_candidates: int | None = None
) -> OutputDir:
    """Returns the run that chooses among candidates.

    Args:
        folder: its folder.
        vocabulary: vocabulary of the run that it is to choose for.
        num_candidates: number of candidates; None: it is not known yet.

    Raises:
        UsageError: it has another vocabulary, cannot score, or has nothing to choose from.
    """
    if num_candidates is not None and num_candidates < 2:
        raise UsageError(
            f"--rescore_dir={folder} has nothing to choose from with num_candidates="
            f"{num_candidates}: expected at least 2, for example 9"
        )
    run = OutputDir(folder)
    model = run.hparams().model
    if not capabilities.offers(model, ScoringModel):
        raise UsageError(
            f"--rescore_dir={folder} holds a run of {model!r}, which cannot score translations. "
            f"Expected one of: {capabilities.models_that_offer(ScoringModel)}"
        )
    theirs = run.vocabulary()
    if theirs is None or theirs.hash != vocabulary.hash:
        raise UsageError(
            f"--rescore_dir={folder}: that run has another vocabulary than the one in "
            "--output_dir. Use a run with the same vocabulary, such as the teacher that distilled "
            "the training data"
        )
    return run
