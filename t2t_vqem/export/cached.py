"""The cached export of a run, which t2t-decoder makes at first use and then translates with.

Finding it does not import TensorFlow. It is stored in the run, in EXPORTS, or in the user's cache
if the run is not writable. Its name is a hash of everything that it depends on.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import t2t_vqem
from t2t_vqem import registry, runtime
from t2t_vqem.constants import NotExportableError, UsageError
from t2t_vqem.files import LockedError, locked
from t2t_vqem.runtime.manifest import FORMAT, MANIFEST

EXPORTS = "exports"
AUTO, LITERT, TENSORFLOW = "auto", "litert", "tensorflow"
GRAPH = ("beam_size", "num_best", "num_candidates", "keep_repeats")  # options that change a graph
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


def graph_of(
    *,
    beam_size: int = 1,
    num_best: int = 1,
    num_candidates: int = 1,
    keep_repeats: bool = False,
    sampling_temperature: float = 0.0,
) -> dict[str, Any]:
    """Returns what the graph of a translation depends on; see `DecodeOptions` for the arguments.

    All other options, and the temperature itself, are inputs.
    """
    several = max(num_best, num_candidates) > 1
    return {
        "beam_size": beam_size,
        "num_best": num_best,
        "num_candidates": num_candidates,
        "keep_repeats": keep_repeats,
        "samples": several and sampling_temperature > 0,  # candidates that are drawn, or found
    }


def load_cached(
    run: str,
    *,
    checkpoint: str | None,
    graph: Mapping[str, Any],
    quantize: str,
    rescore_dir: str | None = None,
    threads: int | None = None,
    batch_tokens: int | None = None,
) -> Any:
    """Loads the export of a run, and makes it first if there is none, or if it is damaged.

    Args:
        run: the run's folder.
        checkpoint: as in `OutputDir.find_checkpoint`.
        graph: by `graph_of`; empty for a run of images.
        quantize: "none" or "int8".
        rescore_dir: folder of the rescorer.
        threads: number of threads of an operation.
        batch_tokens: argument of `TextRuntime`.

    Returns:
        A `TextRuntime` or an `ImageRuntime`.

    Raises:
        NotExportableError: the model cannot be exported, or there is no folder for the export.
        UsageError: the checkpoint or the rescorer cannot be used.
    """
    key = {
        "checkpoint": checkpoint_hash(run, checkpoint),
        "rescorer": rescore_dir and checkpoint_hash(rescore_dir, None),
        "graph": dict(graph),
        "quantize": quantize,
        "plug-ins": _plugin_hash(),
        "t2t_vqem": t2t_vqem.__version__,
        "format": FORMAT,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    load = functools.partial(runtime.load, threads=threads, batch_tokens=batch_tokens)
    waiting = False
    while True:
        for home in (os.path.join(run, EXPORTS), _user_cache()):
            folder = os.path.join(home, name)
            if os.path.exists(os.path.join(folder, MANIFEST)):
                try:
                    return load(folder)
                except UsageError as error:
                    _logger.warning("the run is exported again: %s", error)
                    shutil.rmtree(folder, ignore_errors=True)
        home = _home(run)
        folder = os.path.join(home, name)
        conflict = f"another process exports the run to {folder}"
        try:
            with locked(f"{folder}.making", conflict, remedy="Waiting until it is done"):
                if not os.path.exists(os.path.join(folder, MANIFEST)):
                    _logger.info("exporting the run to %s, only this once", folder)
                    _export(run, folder, checkpoint, graph, quantize, rescore_dir)
                    _remove_oldest(home)
        except LockedError as error:
            if not waiting:
                _logger.info("%s", error)
            waiting = True
            time.sleep(0.5)


def _export(
    run: str,
    folder: str,
    checkpoint: str | None,
    graph: Mapping[str, Any],
    quantize: str,
    rescore_dir: str | None,
) -> None:
    """Exports a run for the first time, which takes TensorFlow."""
    from t2t_vqem.capabilities import LatentTextModel, offers
    from t2t_vqem.decoding.options import completed
    from t2t_vqem.export.exporter import export_run
    from t2t_vqem.output_dir import OutputDir

    output_dir = OutputDir(run)
    given = dict(graph)
    temperature = 1.0 if given.pop("samples", False) else 0.0
    latent = offers(output_dir.hparams().model, LatentTextModel)
    export_run(
        output_dir,
        folder,
        quantize=quantize,
        checkpoint=checkpoint,
        options=completed(latent, **given, sampling_temperature=temperature),
        rescore_dir=rescore_dir,
        verify=False,
        phrases=False,
    )


def _home(run: str) -> str:
    """Returns the folder for new exports of a run."""
    home = os.path.join(run, EXPORTS) if os.access(run, os.W_OK) else _user_cache()
    try:
        os.makedirs(home, exist_ok=True)
    except OSError as error:
        raise NotExportableError(
            f"the export of {run} cannot be stored: {home} cannot be written ({error.strerror}). "
            "Set XDG_CACHE_HOME to another folder, or use TensorFlow"
        ) from error
    return home


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


def _plugin_hash() -> str:
    """Returns a hash of the code in the user's plug-ins, which can have the model."""
    digest = hashlib.sha256()
    for folder in sorted(registry.named_usr_dirs()):
        for path in sorted(
            glob.glob(os.path.join(glob.escape(folder), "**", "*.py"), recursive=True)
        ):
            with open(path, "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()


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
