"""Loads an exported folder."""

from __future__ import annotations

import os

from t2t_vqem.constants import LITERT, UsageError
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.runtime import manifest as manifests
from t2t_vqem.runtime.images import ImageRuntime
from t2t_vqem.runtime.interpreters import Interpreters
from t2t_vqem.runtime.text import DEFAULT_BATCH_TOKENS, TextRuntime


def load(
    folder: str,
    *,
    threads: int | None = None,
    interpreters: int | None = None,
    batch_tokens: int | None = None,
) -> TextRuntime | ImageRuntime:
    """Loads an exported model.

    Args:
        folder: folder that `t2t-exporter --format=litert` wrote.
        threads: number of threads of an operation; None: chosen by the size of the model.
        interpreters: number of batches that run at the same time, each with its own memory; None:
            as many as the cores allow.
        batch_tokens: number of tokens in a batch of text, see `TextRuntime`; None: the default.

    Raises:
        UsageError: the folder is not an export, a file is damaged or was replaced, or the format is
            newer than this version.
    """
    folder = os.path.abspath(os.path.expanduser(folder))
    manifest = manifests.read(folder)
    if manifest.engine != LITERT:
        raise UsageError(
            f"{folder} is an export for {manifest.engine}, expected one for {LITERT}: "
            "t2t-exporter --format=litert makes it"
        )
    manifests.check_files(folder, manifest)
    backend = Interpreters(
        os.path.join(folder, manifests.MODEL), threads=threads, interpreters=interpreters
    )
    if manifest.kind == manifests.IMAGES:
        return ImageRuntime(manifest, backend)
    vocabulary = Vocabulary(os.path.join(folder, manifests.VOCABULARY))
    batch_tokens = DEFAULT_BATCH_TOKENS if batch_tokens is None else batch_tokens
    return TextRuntime(manifest, vocabulary, backend, batch_tokens=batch_tokens)
