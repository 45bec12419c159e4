"""Hides the line with which LiteRT announces its kernels for CPUs, once in a process.

It is written to file descriptor 2 when the first model is prepared. So a tiny model is prepared
first, with the descriptor connected to a file for less than a millisecond.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
import threading
import zlib

_ANNOUNCEMENT = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
# x + x of one number: a model file of TensorFlow's converter, without names and metadata.
_TINY_MODEL = (
    "c-m!9I|{-;6r9x<0|`M;B#59z>R=**C$O@xun=rKNU*fBvbMDJ5Eh=rYs7h*w;FVo;j#1PeRdN7+tqpw#2BE52muw3H}D2L$g="
    "_3j2-e$-pDIiS|@O+s!HNPYXkv11k47irB?N==4+iGLZWj$5_lH-(eX6t%e<EQ#9w4Zp3VMyNbfvb)G5W7`%KA{H0p^yudC"
    ";Xwvo4!J5qcDTOHdd-mvixMCj^D?Q3*L2h$)lx70mftdW#^)7Lk&vtWP9p-Z)HX@2}hot{0w8+oH5xB"
)


_lock = threading.Lock()
_done = False


def hide_announcement() -> None:
    """Lets LiteRT announce its kernels where nobody reads it; passes all other lines on.

    Nothing is hidden if the user has asked for messages with TF_CPP_MIN_LOG_LEVEL.
    """
    global _done
    with _lock:
        if not _done:
            _done = True
            _announce()


def _announce() -> None:
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1"):
        return
    from ai_edge_litert.interpreter import Interpreter

    model = zlib.decompress(base64.b85decode(_TINY_MODEL))
    try:
        real = os.dup(2)
    except OSError:  # there is no standard error
        return
    with tempfile.TemporaryFile() as file:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(file.fileno(), 2)
        try:
            Interpreter(model_content=model, num_threads=1).allocate_tensors()
        finally:
            os.dup2(real, 2)
            file.seek(0)
            others = [line for line in file if not line.startswith(_ANNOUNCEMENT)]
            os.write(real, b"".join(others))
            os.close(real)
