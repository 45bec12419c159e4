"""Files are whole or not there; the locks are real: other processes hold them and are killed."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from t2t_vqem import files
from t2t_vqem.constants import UsageError

HOLDER = """
import sys
from t2t_vqem import files
with files.locked(sys.argv[1], "in use", remedy="Wait.", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(os.listdir(folder))


def locked(path, **kwargs):
    return files.locked(str(path), "in use", remedy="Wait.", **kwargs)


def refused():
    return pytest.raises(UsageError, match="in use")


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced_when_it_is_whole(tmp_path, shared):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with files.writing(str(path), shared=shared) as file:
        file.write(b"after")
        file.flush()
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"
    assert names(tmp_path) == ["file"]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(KeyError), files.writing(str(path)) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"before"
    with pytest.raises(TypeError):
        files.write_json(str(path), {"no": object()})
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


def test_everything_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    """What the disk has been told, in order: contents, the new name, the folder of the name."""
    told = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (told.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (told.append(f"-> {b}"), replace(a, b)))
    files.write_file(str(tmp_path / "file"), b"content")
    assert told == [f"{tmp_path}/file.tmp", f"-> {tmp_path}/file", str(tmp_path)]
    told.clear()
    (tmp_path / "new" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "deep" / "a").touch()
    files.move(str(tmp_path / "new"), str(tmp_path / "folder"))
    assert told == [
        f"{tmp_path}/new",
        f"{tmp_path}/new/deep/a",
        f"-> {tmp_path}/folder",
        str(tmp_path),
    ]
    assert (tmp_path / "folder" / "deep" / "a").exists()


def test_a_folder_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "folder"
    for content in ("first", "second"):
        with files.replacing_folder(str(path)) as unfinished:
            assert os.listdir(unfinished) == []
            files.write_file(os.path.join(unfinished, content), b"")
            assert not (path / content).exists()
        assert names(path) == [content]
    with pytest.raises(KeyError), files.replacing_folder(str(path)) as unfinished:
        files.write_file(os.path.join(unfinished, "third"), b"")
        raise KeyError
    assert names(path) == ["second"] and names(tmp_path) == ["folder"]


def test_a_kill_between_two_folders_loses_neither(tmp_path):
    path = tmp_path / "folder"
    (tmp_path / "folder.old").mkdir()
    (tmp_path / "folder.old" / "before").touch()
    with pytest.raises(KeyError), files.replacing_folder(str(path)):
        raise KeyError
    assert names(path) == ["before"] and names(tmp_path) == ["folder"]


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "real" / "file", tmp_path / "link"
    target.parent.mkdir()
    target.write_bytes(b"before")
    link.symlink_to(target)
    files.write_file(str(link), b"after")
    assert link.is_symlink()
    assert target.read_bytes() == b"after"
    assert names(tmp_path) == ["link", "real"] and names(target.parent) == ["file"]


def test_a_pipe_is_written_to(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    files.write_file(str(path), b"content")
    reader.join(10)
    assert found == [b"content"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device_is_written_to(tmp_path):
    path = tmp_path / "null"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        with open(path, "wb"):
            pass
    except PermissionError:
        path = "/dev/null"  # only the superuser can make one of their own
    files.write_json(str(path), {"a": 1})
    assert stat.S_ISCHR(os.stat(path).st_mode)
    assert files.is_special(str(path)) and not files.is_special(str(tmp_path))


def test_json_is_read_as_it_was_written(tmp_path):
    value = {"ä": [1, 2.5, None], "b": {"c": "\u2028"}}
    files.write_json(str(tmp_path / "a.json"), value)
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == value


def test_output_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UsageError, match="^--out=x: cannot be written, it is a directory"):
        files.check_output(str(tmp_path), "--out=x")
    (tmp_path / "file").touch()
    path = str(tmp_path / "file" / "out")
    with pytest.raises(
        UsageError, match=f"^{path}: cannot be written .File exists: {tmp_path}/file"
    ):
        files.check_output(path)
    files.check_output(str(tmp_path / "new" / "out"))
    assert names(tmp_path / "new") == []
    files.check_output("/dev/null")


def test_the_same_file_under_two_names(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(path)
    assert files.same_file(str(path), str(link))  # though it does not exist
    path.touch()
    assert files.same_file(str(path), str(link))
    assert files.same_file(str(path), f"{tmp_path}/../{tmp_path.name}/file")
    assert not files.same_file(str(path), str(tmp_path / "other"))


def test_a_full_disk_is_explained(tmp_path):
    message = rf"no space left on the disk of {tmp_path} \(.* MB free; writing part\). Go on so."
    explained = files.full_disk_explained(str(tmp_path / "a"), "Go on so.")
    with pytest.raises(UsageError, match=message), explained:
        raise OSError(errno.ENOSPC, "No space left on device", "part")
    with pytest.raises(PermissionError), files.full_disk_explained(str(tmp_path / "a"), ""):
        raise PermissionError(errno.EACCES, "no")


@pytest.fixture
def hold(tmp_path):
    """Starts another process that holds the lock of tmp_path."""
    started = []

    def start(kind):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "lock"), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_second_one_is_refused_until_the_first_is_killed(hold, tmp_path):
    holder = hold("alone")
    message = f"^in use .process {holder.pid} on .*. Wait.$"
    for shared in (False, True):
        with pytest.raises(UsageError, match=message), locked(tmp_path / "lock", shared=shared):
            pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert names(tmp_path) == ["lock"]  # which holds nobody up
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
    assert names(tmp_path) == []


def test_those_who_share_keep_out_who_does_not(hold, tmp_path):
    holder = hold("shared")
    with locked(tmp_path / "lock", shared=True):
        pass
    assert names(tmp_path) == ["lock"]  # the other still holds it
    with refused(), locked(tmp_path / "lock"):
        pass
    holder.stdin.close()
    holder.wait()
    assert names(tmp_path) == []  # the last one has deleted it
    with locked(tmp_path / "lock"):
        pass


def test_a_lock_whose_file_was_deleted_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Between opening the file and locking it, the holder before may delete it."""
    path = tmp_path / "lock"
    flock, opened = files.fcntl.flock, []

    def delete_once(file, operation):
        if not opened:
            opened.append(file)
            path.unlink()
        return flock(file, operation)

    monkeypatch.setattr(files.fcntl, "flock", delete_once)
    with locked(path):
        assert path.exists()
        monkeypatch.undo()
        with refused(), locked(path):
            pass


def test_free_again_after_an_error(tmp_path):
    path = tmp_path / "new" / "lock"
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    with locked(path), refused(), locked(path):
        pass


def test_a_lock_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "lock"
    with pytest.raises(UsageError, match=f"{path} cannot be written .File exists"), locked(path):
        pass


def test_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def refuse(*args):
        raise OSError(95, "Operation not supported")  # EOPNOTSUPP, as some network folders say

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with locked(tmp_path / "lock"):
        assert "file system without locks (Operation not supported)" in caplog.text
