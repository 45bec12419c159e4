"""Writing a folder aside and renaming it, so that a killed export leaves nothing half done."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from t2t_vqem.constants import UsageError
from t2t_vqem.runtime.manifest import MANIFEST


@contextlib.contextmanager
def written_aside(folder: str) -> Iterator[str]:
    """Gives an empty folder, which takes the name `folder` when the block of `with` ends well.

    Raises:
        UsageError: `folder` holds something that is no export, or cannot be written.
    """
    folder = os.path.abspath(folder)
    if os.path.exists(folder) and not _may_be_replaced(folder):
        raise UsageError(
            f"{folder} is there already and is no exported model: it has no {MANIFEST}. Name a "
            "folder that does not exist, or an export to be replaced"
        )
    unfinished, old = f"{folder}.unfinished", f"{folder}.old"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        os.makedirs(unfinished)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}") from error
    try:
        yield unfinished
        if os.path.exists(folder):
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _may_be_replaced(folder: str) -> bool:
    if not os.path.isdir(folder):
        return False
    return not os.listdir(folder) or os.path.exists(os.path.join(folder, MANIFEST))
