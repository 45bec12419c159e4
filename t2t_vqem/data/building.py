"""Writes a data set aside and puts it in place when it is whole.

While it is being made, a data set lies in NAME.partial; what is finished there is reused when the
command is started again. The manifest is written last, then the folder is renamed to NAME: a folder
of that name is always complete.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from t2t_vqem.constants import UsageError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

MANIFEST = "manifest.json"
REPORT = "report.txt"  # what was kept and what was dropped, in words
SCRATCH = "scratch"  # inside NAME.partial: what the finished data set does not need
_IDENTITY = "identity.json"
_CHECKSUM = "checksum"  # name of the manifest's own hash in it
_logger = logging.getLogger(__name__)


def build(
    directory: str,
    identity: dict[str, Any],
    make: Callable[[str, str], dict[str, Any]],
    *,
    keep: bool = False,
    defaults: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the manifest of the data set in `directory`, after making it if it is not there.

    Args:
        directory: where the data set shall be.
        identity: what it is made from and how; JSON. The same identity gives the same files.
        make: called with the folder to write into and a folder for what is needed on the way;
            returns what the manifest says besides `identity`. Finds there what an earlier, killed
            call with the same identity has left.
        keep: whether what a call with another identity has left is too costly to be removed, and
            an error instead.
        defaults: see `compare`.

    Raises:
        UsageError: `directory` holds a data set with another identity, the disk is full, or the
            same data set is being made by another process.
    """
    identity = json.loads(json.dumps(identity))  # as it will be read again
    directory = os.path.abspath(directory)
    partial = f"{directory}.partial"
    scratch = os.path.join(partial, SCRATCH)
    with _disk_full_explained(directory):
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        with _locked(f"{directory}.lock", directory):
            existing = _finished(directory, identity, defaults)
            if existing is not None:
                return existing
            # A kill between the manifest and the renaming leaves both done but the renaming.
            if read_manifest(partial, identity) is None:
                _start(partial, scratch, identity, keep=keep, defaults=defaults)
                write_manifest(partial, {**identity, **make(partial, scratch)})
            shutil.rmtree(scratch, ignore_errors=True)
            os.rename(partial, directory)
            return read_manifest(directory)


@contextlib.contextmanager
def shared_work(
    directory: str, identity: dict[str, Any], share: str, *, defaults: dict[str, Any] | None = None
) -> Iterator[str | None]:
    """Lets several processes, also on several machines, do parts of the work of one data set.

    Each leaves what it has finished where the `make` of a later `build` finds it. While one of them
    is at work `build` is refused, and the other way round.

    Args:
        directory: where the data set shall be, on a file system that all of them see.
        identity: as in `build`.
        share: name of the part of the work; no two processes may be at the same one.
        defaults: see `compare`.

    Yields:
        The folder for what is needed on the way; None where the data set is already there.

    Raises:
        UsageError: as `build`; also if the others work with another identity.
    """
    identity = json.loads(json.dumps(identity))
    directory = os.path.abspath(directory)
    partial = f"{directory}.partial"
    scratch = os.path.join(partial, SCRATCH)
    lock = f"{directory}.lock"
    with _disk_full_explained(directory):
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        with (
            _locked(lock, directory, shared=True),
            _locked(f"{directory}.{share}.lock", f"{share} of {directory}"),
        ):
            if _finished(directory, identity, defaults) is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(lock)  # no `build` will come that would do it
                yield None
            else:
                _start(partial, scratch, identity, keep=True, defaults=defaults)
                yield scratch


def _finished(
    directory: str, identity: dict[str, Any], defaults: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Returns the manifest if the data set is there already, None if there is nothing."""
    existing = read_manifest(directory)
    if existing is not None:
        compare(existing, identity, directory, defaults)
        _logger.info("%s is already generated from the same sources: done.", directory)
    elif os.path.isdir(directory) and os.listdir(directory):
        raise UsageError(
            f"{directory} holds files but no {MANIFEST}: it was not made by this command, "
            "or not left whole. Move it away, or use another --data_dir."
        )
    return existing


@contextlib.contextmanager
def _disk_full_explained(directory: str) -> Iterator[None]:
    """Raises the OSError of a full disk as a UsageError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(
            f"no space left on the disk of {os.path.dirname(directory)} "
            f"({shutil.disk_usage(os.path.dirname(directory)).free / 1e6:.1f} MB free; writing "
            f"{error.filename or directory}). Nothing was put in place; finished parts are kept in "
            f"{directory}.partial. Make room and run the same command again, it goes on from there."
        ) from error


def read_manifest(directory: str, identity: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Returns the manifest in a folder; None if there is none, or none with that identity.

    Raises:
        UsageError: the manifest cannot be read, or is not as it was written.
    """
    path = os.path.join(directory, MANIFEST)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: cannot be read ({error}). Delete {directory} and run t2t-datagen again."
        ) from error
    if not isinstance(manifest, dict) or manifest.pop(_CHECKSUM, None) != _checksum(manifest):
        raise UsageError(
            f"{path}: not as t2t-datagen wrote it (its checksum is missing or another one). "
            f"Delete {directory} and run t2t-datagen again."
        )
    if identity is not None and any(manifest.get(key) != identity[key] for key in identity):
        return None
    return manifest


def write_manifest(directory: str, manifest: dict[str, Any]) -> None:
    """Writes a manifest, with a checksum by which `read_manifest` knows it to be whole."""
    written = {**manifest, _CHECKSUM: _checksum(manifest)}
    write_json(os.path.join(directory, MANIFEST), written)


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def write_json(path: str, value: Any, *, shared: bool = False) -> None:
    """Writes JSON so that a kill leaves either the whole file or none.

    Args:
        path: the file; an existing one is replaced.
        value: what `json.dump` takes.
        shared: whether other processes may write the same file at the same time. A kill then leaves
            a file with another name beside it.
    """
    temporary = f"{path}.{uuid.uuid4().hex}.tmp" if shared else f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def remove_unfinished(scratch: str) -> None:
    """Removes the shards that killed workers were writing into; many kills would fill the disk."""
    for name in os.listdir(scratch):
        if ".array_record." in name:
            os.unlink(os.path.join(scratch, name))


def _start(
    partial: str,
    scratch: str,
    identity: dict[str, Any],
    *,
    keep: bool,
    defaults: dict[str, Any] | None,
) -> None:
    """Makes the folders; what a run with another identity has left is removed, or refused."""
    path = os.path.join(scratch, _IDENTITY)
    before = _read_identity(path)
    if before == identity:
        _logger.info("going on from what an earlier run has left in %s", partial)
        return
    if keep and before is not None:
        compare(before, identity, partial, defaults)
    if not keep and os.path.isdir(partial):
        _logger.info("%s was left by a run with other sources or settings: removed", partial)
        shutil.rmtree(partial)
    os.makedirs(scratch, exist_ok=True)
    write_json(path, identity, shared=True)


def _read_identity(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def compare(
    existing: dict[str, Any],
    identity: dict[str, Any],
    directory: str,
    defaults: dict[str, Any] | None = None,
) -> None:
    """Compares a manifest with an identity that is wanted; what the identity leaves out is free.

    Args:
        existing: the manifest.
        identity: as in `build`.
        directory: where the manifest is, for the message.
        defaults: by key of the identity, what a dict under it means where it lacks a name: data
            made before there was a setting are those of its default.

    Raises:
        UsageError: they differ; the message has what was and what is wanted.
    """
    differences = []
    for key, wanted in identity.items():
        got = existing.get(key)
        if got == wanted:
            continue
        if isinstance(wanted, dict) and isinstance(got, dict):
            got = {**(defaults or {}).get(key, {}), **got}
            names = [n for n in {**got, **wanted} if got.get(n) != wanted.get(n)]
            differences += [f"{key}: {n} was {got.get(n)!r}, now {wanted.get(n)!r}" for n in names]
        else:
            differences.append(f"{key} was {got!r}, now {wanted!r}")
    if differences:
        raise UsageError(
            f"{directory} was generated differently:\n  "
            + "\n  ".join(differences)
            + "\nUse another --data_dir, or delete that folder to generate it anew."
        )


@contextlib.contextmanager
def _locked(path: str, what: str, *, shared: bool = False) -> Iterator[None]:
    """Keeps a second process out, or those out that do not share. Ends with the process."""
    if fcntl is None:
        yield
        return
    while True:
        # On NFS a shared lock takes a file that can be read, an exclusive one that can be written.
        file = open(path, "a+")  # noqa: SIM115 (it is closed below)
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UsageError(
                f"{what} is being generated by another process. Wait until it is done."
            ) from None
        except OSError as error:  # a file system without locks
            _logger.warning("%s cannot be locked (%s): make sure to run once", path, error)
        # Whoever held the lock before may have deleted the file meanwhile: lock the one there is.
        if os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            break
        file.close()
    try:
        yield
    finally:
        if not shared:  # else others may hold it still; `build` deletes it in the end
            os.unlink(path)
        file.close()
