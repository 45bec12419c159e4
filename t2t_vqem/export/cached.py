"""The cached export of a run, which t2t-decoder makes at first use and then translates with.

Finding it does not import TensorFlow. It is stored in the run, in EXPORTS, or in the user's cache
if the run is not writable. Its name is a hash of everything that it depends on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import t2t_vqem
from t2t_vqem import runtime
from t2t_vqem.constants import UsageError
from t2t_vqem.runtime.manifest import FORMAT, MANIFEST

EXPORTS = "exports"
AUTO, LITERT, TENSORFLOW = "auto", "litert", "tensorflow"
_FOLDERS = {"best": "best", "latest": "checkpoints", "averaged": "averaged"}
_KEPT = 4  # number of exports of a run to keep, the newest ones
_ACCELERATORS = ("/dev/nvidiactl", "/dev/accel0", "/dev/vfio/0", "/dev/dxg")
_logger = logging.getLogger(__name__)


class ExportedTranslator:
    """Translates with an export and fixed settings, with the interface of `Translator`."""

    def __init__(self, model: runtime.TextRuntime, settings: Mapping[str, Any]):
        """Stores its arguments.

        Args:
            model: the export.
            settings: arguments of `TextRuntime.translate`.
        """
        self.model = model
        self._settings = dict(settings)

    @property
    def num_cut(self) -> int:
        """Number of lines so far that were truncated."""
        return self.model.num_cut

    def translate(
        self,
        lines: Iterable[str],
        *,
        first_index: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[runtime.Hypothesis]:
        """See `TextRuntime.translate`."""
        return self.model.translate(
            lines, first_index=first_index, progress=progress, **self._settings
        )

    def lengths(self, lines: Sequence[str]) -> list[int]:
        """Returns the number of ids of each source line, including EOS, after truncation."""
        most = self.model.manifest.max_length
        return [min(len(ids) + 1, most) for ids in self.model.vocabulary.encode([*lines])]


def choose_engine(name: str) -> str:
    """Returns LITERT or TENSORFLOW; AUTO is LiteRT if there is no accelerator."""
    if name != AUTO:
        return name
    return TENSORFLOW if has_accelerator() else LITERT


def has_accelerator() -> bool:
    """Returns whether TensorFlow would find a GPU or a TPU, without importing it."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return "TPU_NAME" in os.environ or any(map(os.path.exists, _ACCELERATORS))


def load_cached(
    run: str,
    *,
    checkpoint: str | None,
    graph: Mapping[str, Any],
    quantize: str,
    rescore_dir: str | None,
    make: Callable[[str], None],
    threads: int | None = None,
    batch_tokens: int | None = None,
) -> runtime.TextRuntime:
    """Loads the export of a run, and makes it first if there is none.

    Args:
        run: the run's folder.
        checkpoint: as in `OutputDir.find_checkpoint`.
        graph: everything that the graph depends on, except weights and precision, as JSON.
        quantize: "none" or "int8".
        rescore_dir: folder of the rescorer.
        make: writes an export to a given folder.
        threads: number of threads of an operation.
        batch_tokens: argument of `TextRuntime`.
    """
    key = {
        "checkpoint": checkpoint_hash(run, checkpoint),
        "rescorer": rescore_dir and checkpoint_hash(rescore_dir, None),
        "graph": dict(graph),
        "quantize": quantize,
        "t2t_vqem": t2t_vqem.__version__,
        "format": FORMAT,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    homes = [os.path.join(run, EXPORTS), _user_cache()]
    folders = [os.path.join(home, name) for home in homes]
    folder = next((f for f in folders if os.path.exists(os.path.join(f, MANIFEST))), None)
    if folder is None:
        home = homes[0] if os.access(run, os.W_OK) else homes[1]
        folder = os.path.join(home, name)
        _logger.info("exporting the run to %s, only this once", folder)
        os.makedirs(home, exist_ok=True)
        make(folder)
        _remove_oldest(home)
    model = runtime.load(folder, threads=threads, batch_tokens=batch_tokens)
    if not isinstance(model, runtime.TextRuntime):
        raise UsageError(f"{folder} is not an export of a model that translates: delete it")
    return model


def checkpoint_hash(run: str, checkpoint: str | None) -> str:
    """Returns a hash of the weights that `OutputDir.find_checkpoint` finds.

    Raises:
        UsageError: the checkpoint does not exist.
    """
    for name in [checkpoint] if checkpoint else ["best", "latest"]:
        path = _latest(os.path.join(run, _FOLDERS[name])) if name in _FOLDERS else name
        path = f"{path.removesuffix('.index')}.index"
        if os.path.exists(path):
            with open(path, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()
    from t2t_vqem import output_dir  # handles damaged files, and explains errors

    return output_dir.checkpoint_hash(output_dir.OutputDir(run).find_checkpoint(checkpoint))


def _latest(folder: str) -> str:
    """Returns the path of the checkpoint that TensorFlow's record in a folder names, or ""."""
    try:
        with open(os.path.join(folder, "checkpoint"), encoding="utf-8") as file:
            found = re.search(r'^model_checkpoint_path: "(.*)"$', file.read(), re.MULTILINE)
    except (OSError, ValueError):
        return ""
    return os.path.join(folder, found[1]) if found else ""


def _user_cache() -> str:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(home, "t2t-vqem", EXPORTS)


def _remove_oldest(home: str) -> None:
    """Removes all exports except the newest ones."""
    found = [os.path.join(home, name) for name in os.listdir(home)]
    found = [path for path in found if os.path.exists(os.path.join(path, MANIFEST))]
    for path in sorted(found, key=os.path.getmtime)[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)
