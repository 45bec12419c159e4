"""The output of the command, also as used by a shell."""

import json
import subprocess
import sys

import pytest

from t2t_vqem.bin import _main, t2t_make_tf_configs


@pytest.fixture
def run(capsys):
    """Returns a function that runs the command and returns its status, lines and errors."""

    def call(*arguments):
        for name in t2t_make_tf_configs.FLAGS:
            t2t_make_tf_configs.FLAGS[name].unparse()
        with pytest.raises(SystemExit) as caught:
            _main.run(t2t_make_tf_configs.main, t2t_make_tf_configs.FLAGS, ["command", *arguments])
        printed = capsys.readouterr()
        return caught.value.code or 0, printed.out.splitlines(), printed.err

    return call


def test_prints_one_line_for_each_worker(run):
    status, lines, _ = run("--workers=a,b:7,c", "--port=5")
    assert status == 0
    assert [json.loads(line) for line in lines] == [
        {"cluster": {"worker": ["a:5", "b:7", "c:5"]}, "task": {"type": "worker", "index": index}}
        for index in range(3)
    ]
    assert run("--workers=a,b:7,c", "--port=5", "--index=2") == (0, lines[2:], "")


def test_the_output_is_usable_in_a_shell():
    command = f"{sys.executable} -m t2t_vqem.bin.t2t_make_tf_configs --workers=a,b --index=1"
    program = "import os; print(os.environ['TF_CONFIG'])"
    script = f'TF_CONFIG=$({command}) {sys.executable} -c "{program}"'
    printed = subprocess.run(
        ["bash", "-c", script], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert json.loads(printed)["task"] == {"type": "worker", "index": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--workers is missing"),
        (["--workers=a,a"], "the worker a:2222 occurs 2 times"),
        (["--workers=a:99999"], "port 99999, expected 1 to 65535"),
        (["--workers=a", "--port=0"], "--port=0"),
        (
            ["--workers=a,b", "--index=2"],
            "--index=2 and 2 workers: expected an index from 0 to 1",
        ),
        (["--workers=a", "b"], "unexpected argument 'b'"),
    ],
)
def test_invalid_arguments_are_errors(arguments, message, run):
    status, lines, errors = run(*arguments)
    assert (status, lines) == (2, [])
    assert message in errors
