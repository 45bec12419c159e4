"""Hides the harmless lines that TensorFlow's C++ code logs at every start, and in exports.

Until TensorFlow has read TF_CPP_MIN_LOG_LEVEL, its libraries log everything to file descriptor 2,
and on a machine without a GPU the search for one ends with a line that looks like an error. So
while TensorFlow is imported and searches for devices, the descriptor is connected to another
process, which drops the known harmless lines. It passes all other lines on, even the last ones of a
process that aborts.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
ERRORS = "2"
HARMLESS = "|".join(
    [
        r"WARNING: All log messages before absl::InitializeLog\(\) is called",
        r"[IW]\d{4} \d\d:",  # information and warnings, which level 2 hides from then on
        r"To enable the following instructions: .*, in other operations, rebuild TensorFlow",
        # There is no driver, no GPU, or no visible GPU.
        r"E\d{4} .* cuda_platform\.cc:\d+\] failed call to cuInit: .*(303|CUDA_ERROR_NO_DEVICE)",
        r"E\d{4} .* Unable to register cu(DNN|BLAS|FFT) factory: .* already been registered",
        r"E\d{4} .* oneDNN supports DT_INT64 only on platforms with AVX-512\. Falling back",
        # TensorFlow's optimiser turns a Cast into an Identity and leaves its attribute.
        r"E\d{4} .* node_def_util\.cc:\d+\] NodeDef mentions attribute Truncate which is not in",
        r"normalizer\.cc\(\d+\) LOG\(INFO\)",  # SentencePiece in tensorflow-text
    ]
)
_FILTER = (
    "import re, sys\n"
    "for line in iter(sys.stdin.buffer.readline, b''):\n"
    "    if not re.match(sys.argv[1].encode(), line):\n"
    "        sys.stderr.buffer.write(line)\n"
    "        sys.stderr.buffer.flush()\n"
)
_devices_found = False


def start(*, find_devices: bool = True) -> None:
    """Makes the next import of TensorFlow in this process quiet; see the module's docstring.

    Nothing is hidden if the user has set TF_CPP_MIN_LOG_LEVEL to another level.

    Args:
        find_devices: whether TensorFlow searches for devices as soon as it is imported.
    """
    if os.environ.setdefault(LEVEL, ERRORS) != ERRORS:
        return
    if "tensorflow" not in sys.modules:
        if not any(isinstance(finder, _TensorFlowFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _TensorFlowFinder(find_devices))
    elif find_devices and not _devices_found:  # in a fork of a process that has imported it
        with harmless_lines_hidden():
            _find_devices(sys.modules["tensorflow"])


class _TensorFlowFinder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow with the other finders, and wraps its import."""

    def __init__(self, find_devices: bool):
        self._find_devices = find_devices
        self._searching = False

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow" or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_quietly(module: ModuleType) -> None:
                sys.meta_path.remove(self)
                with harmless_lines_hidden():
                    load(module)
                    if self._find_devices:
                        _find_devices(module)

            spec.loader.exec_module = load_quietly
        return spec


def _find_devices(tensorflow: ModuleType) -> None:
    """Makes TensorFlow search for devices, which it does once; they can still be configured."""
    global _devices_found
    _devices_found = True
    tensorflow.config.list_physical_devices()


@contextlib.contextmanager
def harmless_lines_hidden() -> Iterator[None]:
    """Hides the lines that match `HARMLESS` while the block writes to file descriptor 2.

    Nothing is hidden if the user has set TF_CPP_MIN_LOG_LEVEL to another level.
    """
    if os.environ.get(LEVEL, ERRORS) != ERRORS:
        yield
        return
    try:
        real = os.dup(2)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _FILTER, HARMLESS],
            stdin=subprocess.PIPE,
            start_new_session=True,  # not interrupted by Ctrl-C; it ends when the command ends
        )
    except OSError:  # there is no standard error, or a process cannot be started
        yield
        return
    os.dup2(process.stdin.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(real, 2)
        os.close(real)
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # another process holds the pipe
            process.wait(timeout=5)
