"""The commands' wrapper: flags, help, and errors without a traceback."""

import errno
import importlib
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from t2t_vqem.bin import _main, t2t_trainer
from t2t_vqem.constants import UsageError

FLAGS = flags.FlagValues()
flags.DEFINE_integer("depth", 3, "How deep.", flag_values=FLAGS)
_main.define_overrides(FLAGS, "params", "Settings.")


def main(argv):
    """Does what --depth says."""
    if FLAGS.depth == 5:
        raise UsageError("depth=5 is too deep, expected less than 5")
    if FLAGS.depth == 6:
        raise KeyError("a bug")
    if FLAGS.depth == 7:
        raise KeyboardInterrupt
    if FLAGS.depth == 8:
        raise OSError(errno.ENOSPC, "No space left on device", "out.txt")
    return None if FLAGS.depth == 3 else FLAGS.depth


def status(*arguments: str) -> int | None:
    with pytest.raises(SystemExit) as caught:
        _main.run(main, FLAGS, ["t2t-main", *arguments], after_interrupt="It continues.")
    return caught.value.code


@pytest.mark.parametrize(
    "params",
    ["a=gs://bucket/x", "train=[a.tsv, 's3://b/x.tsv*2']", "s=a.en|hdfs://h/x", "abfss://c@a/x"],
)
def test_paths_of_buckets_are_refused_with_what_to_do(params, capsys):
    assert status(f"--params={params}") == 2
    message = capsys.readouterr().err
    assert "--params: " in message
    assert "is not on this machine, expected a path in its file system. Mount the bu" in message


@pytest.mark.parametrize(
    "params", ["a=gs:/x", "url=https://host/x", "gs", "a=logs://x", "a=b gs://"]
)
def test_other_values_are_no_paths_of_buckets(params):
    assert status(f"--params={params}") is None


def test_the_status_is_main_s():
    assert status() is None  # which is success
    assert status("--depth=4") == 4


def test_usage_errors_are_one_message(capsys):
    assert status("--depth=5") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("error: depth=5 is too deep, expected less than 5\n")
    assert "Traceback" not in captured.err


def test_an_interrupt_is_one_line(capsys):
    assert status("--depth=7") == 130
    assert capsys.readouterr().err == "\nt2t-test-main: interrupted. It continues.\n"


def test_a_full_disk_is_one_message(capsys):
    assert status("--depth=8") == 2
    assert "no space left on the disk, writing out.txt. Free some space" in capsys.readouterr().err


def test_overrides_that_are_given_twice_are_merged():
    assert status("--params=a=1", "--depth=3", "--params=", "--params=b='x, y'") is None
    assert FLAGS.params == "a=1,b='x, y'"
    assert status() is None  # and those of another command line do not count
    assert FLAGS.params == ""


def test_lists_that_are_given_twice_are_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        t2t_trainer.entry_point(["t2t-trainer", "--devices=cpu:0", "--devices=cpu:1"])
    assert caught.value.code == 2
    assert "already defined" in capsys.readouterr().err


def test_no_command_loses_a_part_of_a_list():
    """Settings in one string are merged when a flag is repeated, lists are refused."""
    found = []
    for path in sorted(pathlib.Path(_main.__file__).parent.glob("t2t_*.py")):
        values = importlib.import_module(f"t2t_vqem.bin.{path.stem}").FLAGS
        for name in values:
            flag, place = values[name], (path.stem, name)
            if "name=value" in flag.help or name in ("hparams", "problem_params"):
                assert isinstance(flag, _main.MergedFlag), place
                found.append(place)
            if isinstance(flag.parser, flags.ListParser):
                assert not flag.allow_overwrite, place
                found.append(place)
    assert {("t2t_trainer", "hparams"), ("t2t_datagen", "problem_params")} <= set(found)
    assert {("t2t_trainer", "devices"), ("t2t_make_tf_configs", "workers")} <= set(found)


def test_a_reader_that_has_gone_ends_the_command_quietly():
    script = (
        "from absl import flags\nfrom t2t_vqem.bin import _main\n"
        "_main.run(lambda argv: print('line\\n' * 100_000), flags.FlagValues())"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout.readline() == "line\n"
    command.stdout.close()
    assert command.wait(60) == _main.BROKEN_PIPE_STATUS
    assert command.stderr.read() == ""
    command.stderr.close()


def test_bugs_keep_their_traceback():
    with pytest.raises(KeyError, match="a bug"):
        _main.run(main, FLAGS, ["t2t-main", "--depth=6"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--detph=3", "Unknown command line flag 'detph'. Did you mean: depth"),
        ("--depth=deep", "flag --depth=deep"),
        ("depth", "unexpected argument 'depth': arguments are written --flag=value"),
    ],
)
def test_flags_that_are_not_understood(argument, message, capsys):
    assert status(argument) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_shows_the_docstring_and_the_command_s_own_flags(flag, capsys):
    assert status("--depth=6", flag) == 0
    output = capsys.readouterr().out
    assert output.startswith(__doc__)
    assert "--depth: How deep." in output
    assert "--flagfile" not in output
