"""Files that appear whole or not at all, and locks that keep other processes out.

Everything that this package writes under a final name goes through here: it is written aside,
synced to the disk and renamed, so that neither a kill nor a power cut leaves half a file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import socket
import stat
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

from t2t_vqem.constants import UsageError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def replacing(path: str, *, folder: str | None = None, shared: bool = False) -> Iterator[str]:
    """Yields the name of a file to write, which takes the place of `path` when the block ends.

    After an error the new file is removed and `path` is as it was.

    Args:
        path: the final name; where it is a symbolic link, the file that it leads to is replaced.
        folder: where the new file is written, on the same file system; default: beside the other.
        shared: whether other processes may write the same file at the same time. A kill then leaves
            a file of another name each time.
    """
    path = os.path.realpath(path)
    folder, name = folder or os.path.dirname(path), os.path.basename(path)
    unique = f".{uuid.uuid4().hex}" if shared else ""
    unfinished = os.path.join(folder, f"{name}{unique}.tmp")
    try:
        yield unfinished
        move(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(unfinished)
        raise


@contextlib.contextmanager
def writing(path: str, *, shared: bool = False) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` when the block ends; see `replacing`.

    A device or a pipe is never replaced: it is written to.
    """
    if is_special(path):
        with open(path, "wb") as file:
            yield file
    else:
        with replacing(path, shared=shared) as unfinished, open(unfinished, "wb") as file:
            yield file


def write_file(path: str, content: bytes) -> None:
    """Writes a file; see `writing`."""
    with writing(path) as file:
        file.write(content)


def write_json(path: str, value: Any, *, shared: bool = False) -> None:
    """Writes a value as JSON; see `writing`."""
    with writing(path, shared=shared) as file:
        file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def move(source: str, target: str) -> None:
    """Renames a file, or a folder with its files, after syncing it to the disk.

    A file at `target` is replaced.
    """
    _sync(source)
    for folder, _, names in os.walk(source):
        for name in names:
            _sync(os.path.join(folder, name))
    os.replace(source, target)
    _sync(os.path.dirname(os.path.abspath(target)))


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a folder, on some file systems
            raise
    finally:
        os.close(descriptor)


def is_special(path: str) -> bool:
    """Returns whether a path is a device, a pipe or a socket: neither a file nor a folder."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def same_file(path: str, other: str) -> bool:
    """Returns whether two paths lead to the same file, which need not exist."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def check_output(path: str, name: str | None = None) -> None:
    """Checks that a file can be written, before hours are spent on its content.

    Args:
        path: the file; its folder is made where there is none.
        name: what to call it in the message, such as a flag with its value.

    Raises:
        UsageError: nothing can be written there.
    """
    name = name or path
    if os.path.isdir(path):
        raise UsageError(f"{name}: cannot be written, it is a directory")
    target = path if is_special(path) else os.path.dirname(os.path.realpath(path))
    try:
        if target != path:
            os.makedirs(target, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{name}: cannot be written ({error.strerror}: {target})") from error
    if not os.access(target, os.W_OK):
        raise UsageError(f"{name}: cannot be written (no permission for {target})")


@contextlib.contextmanager
def full_disk_explained(path: str, kept: str) -> Iterator[None]:
    """Raises the OSError of a full disk as a UsageError.

    Args:
        path: what is being written.
        kept: what is kept of the work so far, and how to go on with it: whole sentences.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        folder = os.path.dirname(os.path.abspath(path))
        raise UsageError(
            f"no space left on the disk of {folder} ({shutil.disk_usage(folder).free / 1e6:.1f} MB "
            f"free; writing {error.filename or path}). {kept}"
        ) from error


@contextlib.contextmanager
def locked(path: str, conflict: str, *, remedy: str, shared: bool = False) -> Iterator[None]:
    """Keeps other processes out of what a lock file stands for.

    The system releases the lock when the process ends, however it ends; a file that a kill leaves
    is in nobody's way. Network file systems pass the lock on to other machines; on a file system
    that has no locks there is a warning and no lock.

    Args:
        path: the lock file; its folder is made where there is none.
        conflict: what to say when another process holds the lock: who does what where.
        remedy: what to do about it, a whole sentence.
        shared: whether to keep out only those who do not share the lock.

    Raises:
        UsageError: another process holds the lock, or the file cannot be written.
    """
    file = _open_locked(path, f"{conflict} ({{holder}}). {remedy}", shared)
    try:
        if not shared:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield
    finally:
        with file:
            # Only who holds it alone may delete it. In between, another may have deleted it.
            if (not shared or _try_lock(file, shared=False)) and _is_at(file, path):
                os.unlink(path)


def _open_locked(path: str, conflict: str, shared: bool) -> TextIO:
    while True:
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            # On NFS a shared lock takes a file that can be read, an exclusive one a writable file.
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (the caller closes it)
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            raise UsageError(
                f"{path} cannot be written ({error.strerror}: {error.filename})"
            ) from error
        if not _try_lock(file, shared=shared):
            with file:
                file.seek(0)
                holder = file.read().strip() or "a process that shares it"
            raise UsageError(conflict.replace("{holder}", holder))
        # The holder before may have deleted the file meanwhile: lock the one that is there.
        if _is_at(file, path):
            return file
        file.close()


def _try_lock(file: TextIO, *, shared: bool) -> bool:
    """Locks a file, or changes the kind of its lock; returns False where another process has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        _logger.warning(
            "%s lies on a file system without locks (%s): make sure that no other process does the "
            "same work",
            file.name,
            error.strerror,
        )
    return True


def _is_at(file: TextIO, path: str) -> bool:
    return os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path))
