"""Writes a temporary folder and renames it, so that a killed export leaves no partial folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from t2t_vqem.constants import UsageError
from t2t_vqem.files import locked, replacing_folder
from t2t_vqem.runtime.manifest import MANIFEST


@contextlib.contextmanager
def written_aside(folder: str) -> Iterator[str]:
    """Yields an empty folder, which is renamed to `folder` if the body of `with` succeeds.

    Raises:
        UsageError: `folder` exists and is not an export, or cannot be written.
    """
    folder = os.path.abspath(folder)
    if os.path.exists(folder) and not _may_be_replaced(folder):
        raise UsageError(
            f"{folder} exists and is not an exported model: it has no {MANIFEST}. Name a folder "
            "that does not exist, or an export to replace"
        )
    conflict = f"another t2t-exporter is writing {folder}"
    lock = locked(f"{folder}.lock", conflict, remedy="Wait until it is done")
    with lock, replacing_folder(folder) as unfinished:
        yield unfinished


def _may_be_replaced(folder: str) -> bool:
    if not os.path.isdir(folder):
        return False
    return not os.listdir(folder) or os.path.exists(os.path.join(folder, MANIFEST))
