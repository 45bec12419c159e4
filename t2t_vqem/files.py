"""Atomic writing of files, and locks between processes.

Every file that this package writes is written under a temporary name, synced to the disk and
renamed. So neither a kill nor a power failure leaves an incomplete file under the final name.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
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


class LockedError(UsageError):
    """Another process holds a lock."""


_REMOTE = re.compile(
    r"(?:^|[=|,'\"\[(]\s*)((?:gs|s3a?|r2|hdfs|az|abfss?|wasbs?|dbfs|cns)://[^\s,|'\"\])]*)"
)
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def replacing(path: str, *, folder: str | None = None, shared: bool = False) -> Iterator[str]:
    """Yields the temporary name of a file to write, which is renamed to `path` afterwards.

    After an error the temporary file is removed and `path` is unchanged.

    Args:
        path: the final name. If it is a symbolic link, the file that it points to is replaced.
        folder: folder of the temporary file, on the same file system; default: that of `path`.
        shared: whether other processes may write the same file at the same time. Then temporary
            names are unique, and every kill leaves another temporary file.
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
    """Opens a file for writing that replaces `path` at the end of the block; see `replacing`.

    A device or a pipe is never replaced, but written to.
    """
    if is_special(path):
        with open(path, "wb") as file:
            yield file
    else:
        with replacing(path, shared=shared) as unfinished, open(unfinished, "wb") as file:
            yield file


@contextlib.contextmanager
def replacing_folder(path: str) -> Iterator[str]:
    """Yields an empty folder to fill, which takes the place of the folder `path` in the end.

    A folder cannot be replaced in one step: what was there is PATH.old for a moment, and is put
    back by the next call where a kill came in between.
    """
    path = os.path.realpath(path)
    unfinished, old = f"{path}.unfinished", f"{path}.old"
    if os.path.isdir(old) and not os.path.exists(path):
        move(old, path)
    for left in (unfinished, old):
        shutil.rmtree(left, ignore_errors=True)
    os.makedirs(unfinished)
    try:
        yield unfinished
        if os.path.exists(path):
            move(path, old)
        move(unfinished, path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


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


def check_local(text: str, name: str) -> None:
    """Checks that no path in a text is one of a bucket or another remote store.

    Args:
        text: a path, or settings that hold paths: "train=[gs://b/a.tsv]".
        name: where it is given, such as a flag.

    Raises:
        UsageError: there is such a path; the message says how to use the files nevertheless.
    """
    found = _REMOTE.search(text)
    if found:
        raise UsageError(
            f"{name}: {found[1]} is not on this machine, expected a path in its file system. Mount "
            "the bucket and give the folder that it is mounted at (gs:// with gcsfuse, s3:// with "
            "mount-s3, others with rclone mount), or copy the files first (gcloud storage cp, aws "
            "s3 cp)."
        )


def is_special(path: str) -> bool:
    """Returns whether a path is a device, a pipe or a socket, so neither a file nor a folder."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def same_file(path: str, other: str) -> bool:
    """Returns whether two paths are the same file, which need not exist."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def check_output(path: str, name: str | None = None) -> None:
    """Checks that a file can be written, before hours are spent on computing its content.

    Args:
        path: the file. Its folder is created if it does not exist.
        name: the file's name in the message, such as a flag with its value.

    Raises:
        UsageError: the file cannot be written.
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
    """Converts the OSError of a full disk to a UsageError.

    Args:
        path: the file or folder that is being written.
        kept: which finished work is kept, and how to continue it: complete sentences.
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
def locked(
    path: str, conflict: str, *, remedy: str, shared: bool = False, wait: bool = False
) -> Iterator[None]:
    """Holds a lock against other processes.

    The operating system releases the lock when the process ends, in any way; a lock file left by a
    kill blocks nobody. Network file systems share locks between machines. On a file system without
    locks there is a warning and no lock.

    Args:
        path: the lock file. Its folder is created if it does not exist.
        conflict: the message if another process holds the lock: who does what and where.
        remedy: what to do about it, a complete sentence.
        shared: whether other processes may hold the lock at the same time if they also share it.
        wait: whether to wait for another process to release the lock, instead of an error.

    Raises:
        LockedError: another process holds the lock.
        UsageError: the file cannot be written.
    """
    file = _open_locked(path, f"{conflict} ({{holder}}). {remedy}", shared, wait)
    try:
        if not shared:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield
    finally:
        with file:
            # Only an exclusive holder may delete the file. Another one may have deleted it already.
            if (not shared or _try_lock(file, shared=False)) and _is_at(file, path):
                os.unlink(path)


def _open_locked(path: str, conflict: str, shared: bool, wait: bool) -> TextIO:
    while True:
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            # On NFS, a shared lock needs a readable file and an exclusive lock a writable one.
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (the caller closes it)
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            raise UsageError(
                f"{path} cannot be written ({error.strerror}: {error.filename})"
            ) from error
        if not _try_lock(file, shared=shared):
            file.seek(0)
            holder = file.read().strip() or "a process that shares it"
            if not wait:
                file.close()
                raise LockedError(conflict.replace("{holder}", holder))
            _logger.info("%s", conflict.replace("{holder}", holder))
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        # The previous holder may have deleted the file meanwhile: then lock the current one.
        if _is_at(file, path):
            return file
        file.close()


def _try_lock(file: TextIO, *, shared: bool) -> bool:
    """Locks a file, or changes the type of the lock; returns False if another process holds it."""
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
            "%s is on a file system without locks (%s): make sure that no other process does the "
            "same work",
            file.name,
            error.strerror,
        )
    return True


def _is_at(file: TextIO, path: str) -> bool:
    return os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path))
