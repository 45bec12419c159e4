"""Keeps a second trainer out of an output directory."""

import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator

from t2t_vqem.constants import UsageError

LOCK = "trainer.lock"
_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def hold_lock(folder: str) -> Iterator[None]:
    """Holds the lock of a folder; the system takes it back when the process ends, however it ends.

    The file stays, empty of meaning when nobody holds it. Network file systems pass such locks on
    to other hosts; one that knows no locks is used without, with a warning.

    Raises:
        UsageError: another process holds it, or the folder cannot be written to.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        file = open(os.path.join(folder, LOCK), "a+", encoding="utf-8")  # noqa: SIM115, see below
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UsageError(
                f"another t2t-trainer ({file.read().strip() or 'unknown'}) is training in "
                f"{folder}. Stop it first, or use another --output_dir"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            _logger.warning(
                "%s lies on a file system without locks (%s): see to it yourself that no second "
                "t2t-trainer is started there",
                folder,
                error.strerror,
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
