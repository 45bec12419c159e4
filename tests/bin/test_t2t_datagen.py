import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from t2t_vqem.bin import _main, t2t_datagen
from tests.conftest import wait_until, write_toy_text

COMMAND = [sys.executable, "-m", "t2t_vqem.bin.t2t_datagen"]


def run(*arguments: str) -> int:
    """Runs the command in this process; returns its exit status."""
    flags = t2t_datagen.FLAGS
    flags.unparse_flags()
    for name in flags:
        flags[name].unparse()
    with pytest.raises(SystemExit) as caught:
        _main.run(t2t_datagen.main, flags, ["t2t-datagen", *arguments])
    return caught.value.code or 0


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def text(tmp_path) -> str:
    write_toy_text(tmp_path / "text", train=300)
    with (
        open(tmp_path / "text/train.en", "a") as source,
        open(tmp_path / "text/train.de", "a") as t,
    ):
        source.write("\none\n")
        t.write("eins\neins" + 60 * " zwei" + "\n")
    return str(tmp_path / "text")


def test_reports_what_it_kept_and_dropped_and_why(tmp_path, text, capsys):
    arguments = [
        "--problem=translate_text",
        f"--source_dir={text}",
        f"--data_dir={tmp_path}/data",
        "--problem_params=vocab_size=320,max_length=50",
        "--num_workers=1",
    ]
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert "train: 300 pairs of 302 lines" in out
    assert "dropped 2: 1 with an empty side, 1 too long (over 50 tokens), 0 by ratio" in out
    assert f"{tmp_path}/data/translate_text is ready." in out
    assert (tmp_path / "data/translate_text/report.txt").read_text() in out

    assert run(*arguments) == 0
    assert "is ready" in capsys.readouterr().out
    assert run(*arguments, "--gin_param=translate_text.max_length = 40") == 0  # flags come last
    capsys.readouterr()
    assert run(*arguments[:3], "--gin_param=translate_text.vocab_size = 310") == 2
    error = capsys.readouterr().err
    assert "config: vocab_size was 320, now 310" in error
    assert "Use another --data_dir" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--problem is missing. Expected one of: "),
        (["--problem=translate_text"], "--data_dir is missing"),
        (["--problem=translate_txt"], "Did you mean translate_text"),
        (["--problem=translate_text", "--data_dir=d"], "translate_text needs --source_dir"),
        (
            ["--problem=translate_text", "--data_dir=d", "--source_dir=nowhere"],
            "--source_dir=nowhere: no such directory",
        ),
        (
            ["--problem=translate_text", "--data_dir=d", "--problem_params=vocab_sise=1"],
            "Did you mean vocab_size",
        ),
        (
            ["--problem=translate_text", "--data_dir=d", "--problem_params=source_language=xxxx"],
            "unknown language 'xxxx'",
        ),
        (["--problem=translate_text", "--num_workers=0"], "num_workers"),
    ],
)
def test_errors_are_one_message(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_invalid_text_is_an_error_that_names_the_line_and_leaves_no_data(tmp_path, text, capsys):
    with open(f"{text}/train.de", "ab") as file:
        file.write(b"sch\xf6n\n")
    arguments = ["--problem=translate_text", f"--source_dir={text}", f"--data_dir={tmp_path}/data"]
    assert run(*arguments) == 2
    assert "train.de, line 303: not UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "data/translate_text").exists()


def test_registry_help_lists_and_describes(capsys):
    assert run("--registry_help") == 0
    assert re.search(r"\n  translate_ende_multi30k +Multi30k", capsys.readouterr().out)
    assert run("--registry_help=translate_text") == 0
    assert "max_ratio: float = 4.0" in capsys.readouterr().out
    assert run("--registry_help=translate_txt") == 2
    assert "Did you mean translate_text" in capsys.readouterr().err


def test_loads_problems_from_a_user_folder(tmp_path, capsys):
    folder = tmp_path / "my_own_problems"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from t2t_vqem.text_problem import TextProblem\n"
        "from t2t_vqem.registry import problems\n"
        "@problems.register()\n"
        "class ShoutedText(TextProblem):\n"
        "    '''Upper case.'''\n"
        "    def generate_samples(self, split):\n"
        "        return [('ab cd ef', 'AB CD EF')] * 20\n"
    )
    from t2t_vqem.registry import problems

    with problems.temporary():
        arguments = ["--problem=shouted_text", f"--data_dir={tmp_path}/data"]
        assert run(*arguments, f"--t2t_usr_dir={folder}") == 0
    assert "train: 20 pairs of 20 lines" in capsys.readouterr().out


def test_does_not_import_tensorflow(tmp_path, text):
    code = (
        "import sys\n"
        "from t2t_vqem.bin import t2t_datagen\n"
        "try:\n"
        "    t2t_datagen.entry_point()\n"
        "finally:\n"
        "    assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    arguments = ["--problem=translate_text", f"--source_dir={text}", f"--data_dir={tmp_path}/data"]
    subprocess.run(
        [sys.executable, "-c", code, *arguments, "--num_workers=1"], check=True, timeout=60
    )


STAGES = ["identity.json", "train.marks.json", "vocab.model", "train-00000.npz", "dev-00000.npz"]


@pytest.mark.slow
def test_a_killed_command_continues_to_the_same_result(tmp_path):
    write_toy_text(tmp_path / "text", train=70_000)
    arguments = [
        "--problem=translate_text",
        f"--source_dir={tmp_path}/text",
        "--problem_params=vocab_size=320,vocab_sample=3000",
    ]
    subprocess.run([*COMMAND, *arguments, f"--data_dir={tmp_path}/whole"], check=True)
    expected = contents(tmp_path / "whole/translate_text")

    killed = tmp_path / "killed/translate_text"
    parts = 0
    for stage in [*STAGES, *STAGES[-2:]]:
        process = subprocess.Popen(
            [*COMMAND, *arguments, f"--data_dir={tmp_path}/killed", "--num_workers=2"]
        )
        wait_until(
            lambda stage=stage, process=process: (
                process.poll() is not None or list(tmp_path.glob(f"killed/*.partial/**/{stage}"))
            ),
            stage,
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not killed.exists() or contents(killed) == expected
        finished = len(list(tmp_path.glob("killed/*.partial/scratch/*.npz")))
        assert finished >= parts or killed.exists()  # finished parts are kept
        parts = finished
    subprocess.run([*COMMAND, *arguments, f"--data_dir={tmp_path}/killed"], check=True)
    assert contents(killed) == expected
    assert os.listdir(tmp_path / "killed") == ["translate_text"]


@pytest.mark.slow
def test_shards_by_concurrent_processes_of_which_one_is_killed(tmp_path):
    write_toy_text(tmp_path / "text", train=20_000)
    arguments = [
        *COMMAND,
        "--problem=translate_text",
        f"--source_dir={tmp_path}/text",
        "--problem_params=vocab_size=320,vocab_sample=3000",
        "--num_workers=1",
    ]
    subprocess.run([*arguments, f"--data_dir={tmp_path}/whole"], check=True)
    expected = contents(tmp_path / "whole/translate_text")

    arguments.append(f"--data_dir={tmp_path}/shards")
    shards = [[*arguments, f"--shard={shard}", "--num_shards=2"] for shard in range(2)]
    killed, other = map(subprocess.Popen, shards)  # one of them waits for the vocabulary
    wait_until(
        lambda: killed.poll() is not None or list(tmp_path.glob("shards/*.partial/vocab.model")),
        "vocab.model",
    )
    killed.kill()
    killed.wait()
    assert other.wait() == 0
    assert not (tmp_path / "shards/translate_text").exists()
    subprocess.run(shards[0], check=True)
    subprocess.run(arguments, check=True)
    assert contents(tmp_path / "shards/translate_text") == expected
    assert os.listdir(tmp_path / "shards") == ["translate_text"]
