"""t2t-datagen --teacher_dir: its flags and output, and killed and sharded real processes."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

from t2t_vqem.bin import _main, t2t_datagen
from tests.distillable import Distillable, echo_registered, make_distillable

NAME = "translate_text_distilled"
PARAMS = "--problem_params=beam_size=1,xla=false"
# Parts of a few lines, so that there are many: 5 of dev, 38 of train. The process is killed before
# the file number KILL_AT is renamed to its final name.
PROGRAM = (
    "import itertools, os, signal\n"
    "replace, numbers = os.replace, itertools.count(1)\n"
    "def replace_or_die(*paths):\n"
    "    if next(numbers) == int(os.environ.get('KILL_AT', 0)):\n"
    "        os.kill(os.getpid(), signal.SIGKILL)\n"
    "    replace(*paths)\n"
    "os.replace = replace_or_die\n"
    "from t2t_vqem.inference import distillation, translate\n"
    "distillation.WINDOW_LINES = translate.WINDOW_LINES = 8\n"
    "from t2t_vqem.bin import t2t_datagen\n"
    "t2t_datagen.entry_point()\n"
)


@pytest.fixture(scope="module", autouse=True)
def echo():
    with echo_registered():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Distillable:
    return make_distillable(tmp_path_factory.mktemp("distillable"))


def run(*arguments: str) -> int:
    """Runs the command in this process; returns its exit status."""
    flags = t2t_datagen.FLAGS
    for name in flags:
        flags[name].unparse()
    with pytest.raises(SystemExit) as caught:
        _main.run(t2t_datagen.main, flags, ["t2t-datagen", *arguments])
    return caught.value.code or 0


def data_beside(made: Distillable, folder: pathlib.Path) -> list[str]:
    """Copies the base data to a folder; returns the arguments that distil there."""
    folder.mkdir()
    shutil.copytree(made.dataset.directory, folder / made.dataset.problem.name)
    return [
        f"--problem={NAME}",
        f"--data_dir={folder}",
        f"--teacher_dir={made.teacher_dir}",
        "--num_workers=1",
        PARAMS,
    ]


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / NAME).iterdir()}


def start(arguments: list[str], kill_at: int = 0) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "KILL_AT": str(kill_at)},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, status: int = 0) -> str:
    """Returns the log of a process."""
    log = process.communicate()[1]
    assert process.returncode == status, log
    return log


def test_prints_the_teacher_s_bleu_failures_and_speed(made, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    arguments = data_beside(made, tmp_path / "data")
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert re.search(r"^teacher on dev: BLEU = \d+\.\d\d  \(nrefs:1\|", out, re.M)
    assert "teacher failed on 3 of 303 training sources, which are dropped" in out
    assert "train: 300 pairs of 300 lines" in out
    assert out.endswith(f"{tmp_path}/data/{NAME} is ready.\n")
    assert (tmp_path / "data" / NAME / "report.txt").read_text() in out
    assert re.search(r"translated 343 sentences in .* s, compilation included: ", caplog.text)
    assert re.search(r"the teacher on dev: BLEU = ", caplog.text)

    assert run(*arguments[:2]) == 2  # with settings other than those it was made with
    assert "beam_size was 1, now 4" in capsys.readouterr().err
    assert run(*arguments[:2], PARAMS) == 0  # exists already: no teacher is needed
    assert "is ready" in capsys.readouterr().out


def test_settings_of_the_base_data_need_not_be_repeated(made, tmp_path, capsys):
    arguments = data_beside(made, tmp_path / "data")
    assert made.dataset.problem.config.vocab_size == 320  # not the default
    assert run(*arguments) == 0
    again = [*arguments[:-1], f"{PARAMS},vocab_size=330"]
    shutil.rmtree(tmp_path / "data" / NAME)
    assert run(*again) == 2
    assert "config: vocab_size was 320, now 330" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard=0"], "got --shard=0 and --num_shards=None: give both"),
        (["--num_shards=2"], "got --shard=None and --num_shards=2: give both"),
        (["--shard=2", "--num_shards=2"], "shard 2 of 2: expected a number from 0 to 1"),
        (["--shard=-1", "--num_shards=2"], "--shard"),
        (
            ["--teacher_dir="],
            "and needs --teacher_dir, the output directory of the teacher's run",
        ),
        (["--source_dir=text"], "is made from --teacher_dir. Omit the flag."),
        (["--checkpoint=averaged"], "there is no checkpoint 'averaged'"),
        (["--problem_params=beam_size=0"], "beam_size is given twice"),
        (["--problem_params=num_translations=0"], "num_translations=0 is out of range"),
        (
            ["--problem=translate_text"],
            "or use --problem=translate_text_distilled: only distilled problems take the output "
            "directory of the teacher",
        ),
        (["--problem=translate_text"], "or use --problem=translate_text_distilled"),
        (["--problem=translate_ende_cldr_distilled"], "no data of translate_ende_cldr in "),
    ],
)
def test_misuse_is_one_message_and_writes_nothing(made, tmp_path, capsys, arguments, message):
    assert run(*data_beside(made, tmp_path / "data"), *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert os.listdir(tmp_path / "data") == [made.dataset.problem.name]


@pytest.mark.slow
def test_a_killed_command_continues_to_the_same_bytes(made, tmp_path):
    whole = data_beside(made, tmp_path / "whole")
    assert "translated 343 sentences" in finish(start(whole))
    expected = contents(tmp_path / "whole")

    arguments = data_beside(made, tmp_path / "killed")
    scratch = tmp_path / "killed" / f"{NAME}.partial" / "scratch"
    # Each continues where the one before was killed. The first writes the name of its process.
    for kill_at, num_parts in ((1, 0), (10, 8), (34, 41), (5, 43), (6, 43)):
        finish(start(arguments, kill_at), -signal.SIGKILL)
        assert len(list(scratch.glob("*-0*.json"))) == num_parts
        assert not (tmp_path / "killed" / NAME).exists()
    assert list(scratch.glob("train-00000.npz"))  # it was killed while it wrote the records
    assert not re.search(r"translated \d+ sentences", finish(start(arguments)))
    assert contents(tmp_path / "killed") == expected
    assert sorted(os.listdir(tmp_path / "killed")) == [made.dataset.problem.name, NAME]


@pytest.mark.slow
def test_shards_by_concurrent_processes_of_which_one_is_killed(made, tmp_path):
    finish(start(data_beside(made, tmp_path / "whole")))
    arguments = data_beside(made, tmp_path / "data")
    shards = [[*arguments, f"--shard={shard}", "--num_shards=2"] for shard in range(2)]
    killed, other = start(shards[0], kill_at=8), start(shards[1])
    finish(killed, -signal.SIGKILL)
    finish(other)
    finish(start(shards[0]))
    assert not re.search(r"translated \d+ sentences", finish(start(arguments)))
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")
    assert sorted(os.listdir(tmp_path / "data")) == [made.dataset.problem.name, NAME]


@pytest.mark.slow
def test_from_text_to_a_student_with_the_real_commands(tmp_path):
    """A teacher of a few steps, which fails on some sentences; its student trains a few steps."""
    data, teacher, student = (str(tmp_path / name) for name in ("data", "teacher", "student"))
    sizes = (
        "num_encoder_layers=1,num_decoder_layers=1,hidden_size=64,filter_size=128,num_heads=2,"
        "batch_size=1024,max_length=64,num_buckets=1,learning_rate=0.005,warmup_steps=60,"
        "ema_decay=0.0,dropout=0.0,attention_dropout=0.0,relu_dropout=0.0"
    )

    def command(name: str, *arguments: str) -> str:
        finished = subprocess.run(
            [sys.executable, "-m", f"t2t_vqem.bin.{name}", f"--data_dir={data}", *arguments],
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def train(problem: str, output_dir: str, steps: int) -> None:
        arguments = ["--hparams_set=transformer_tiny", f"--hparams={sizes}", "--noxla"]
        arguments += [f"--train_steps={steps}", f"--local_eval_frequency={steps}"]
        arguments += [f"--problem={problem}", f"--output_dir={output_dir}"]
        command("t2t_trainer", *arguments)

    problem = "translate_ende_cldr"
    params = "train_size=800,dev_size=30,test_size=20,vocab_size=800"
    command("t2t_datagen", f"--problem={problem}", f"--problem_params={params}")
    train(problem, teacher, 350)
    arguments = [f"--problem={problem}_distilled", "--problem_params=beam_size=2,xla=false"]
    out = command("t2t_datagen", *arguments, f"--teacher_dir={teacher}")
    failed, total = re.search(r"teacher failed on (\d+) of (\d+) training sources", out).groups()
    assert total == "800"
    assert f" pairs of {800 - int(failed):,} lines" in out
    scored = command(
        "t2t_decoder",
        f"--output_dir={teacher}",
        "--decode_split=dev",
        "--beam_size=2",
        "--noxla",
        f"--decode_to_file={tmp_path}/dev.de",
    )
    assert f"teacher on dev: {scored.splitlines()[0]}" in out

    train(f"{problem}_distilled", student, 3)
    scored = command(
        "t2t_decoder",
        f"--output_dir={student}",
        "--decode_split=test",
        "--noxla",
        f"--decode_to_file={tmp_path}/test.de",
    )
    assert scored.startswith("BLEU = ")
    reference = (tmp_path / f"data/{problem}/test.de").read_text().splitlines()
    assert len((tmp_path / "test.de").read_text().splitlines()) == len(reference) == 20
