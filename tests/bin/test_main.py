"""The commands' wrapper: flags, help, and errors without a traceback."""

import subprocess
import sys

import pytest
from absl import flags

from t2t_vqem.bin import _main
from t2t_vqem.constants import UsageError

FLAGS = flags.FlagValues()
flags.DEFINE_integer("depth", 3, "How deep.", flag_values=FLAGS)


def main(argv):
    """Does what --depth says."""
    if FLAGS.depth == 5:
        raise UsageError("depth=5 is too deep, expected less than 5")
    if FLAGS.depth == 6:
        raise KeyError("a bug")
    return None if FLAGS.depth == 3 else FLAGS.depth


def status(*arguments: str) -> int | None:
    FLAGS.unparse_flags()
    FLAGS["depth"].unparse()
    with pytest.raises(SystemExit) as caught:
        _main.run(main, FLAGS, ["t2t-main", *arguments])
    return caught.value.code


def test_the_status_is_main_s():
    assert status() is None  # which is success
    assert status("--depth=4") == 4


def test_usage_errors_are_one_message(capsys):
    assert status("--depth=5") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("error: depth=5 is too deep, expected less than 5\n")
    assert "Traceback" not in captured.err


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
