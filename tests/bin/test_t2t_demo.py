"""t2t-demo: its commands exist, its report is right, it passes a stop on, and a whole run works."""

import copy
import importlib
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import urllib.request

import pytest

from t2t_vqem.bin import _demo_chapters, _demo_report, _demo_serving
from t2t_vqem.bin import t2t_demo as demo
from t2t_vqem.capabilities import check_fits
from t2t_vqem.constants import UsageError
from t2t_vqem.registry import problems
from tests.conftest import wait_until

TEST = _demo_report.TestFiles("x/data/test.en", "x/data/test.de")


def all_commands() -> list[demo.Command]:
    chapters = [
        _demo_chapters.data_chapter("x", 3, 50),
        _demo_chapters.transformer_chapter("x", TEST, 3, 100),
        _demo_chapters.latent_chapter("x", TEST, 3, 100),
        _demo_chapters.digits_chapter("x", 3, 100),
    ]
    return [
        command for chapter in chapters for command in [*chapter.commands, *chapter.decodings()]
    ]


def serving_commands() -> list[demo.Command]:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("transformer", "latent", "digits"):
            (pathlib.Path(folder) / name).mkdir()
        return [*_demo_serving.export_commands(folder), _demo_serving.server_command(folder, 0)]


@pytest.mark.parametrize(
    "command", [*all_commands(), *serving_commands()], ids=lambda command: command.program
)
def test_command_has_flags_that_exist(command):
    module = importlib.import_module(command.module())
    values = copy.deepcopy(module.FLAGS)
    assert values([command.program, *command.words()]) == [command.program]


def test_models_fit_their_problems():
    trained = [c.flags for c in all_commands() if c.program == "t2t-trainer"]
    assert len(trained) == 3
    for settings in trained:
        check_fits(problems.get(settings["problem"]), settings["model"])


def test_typed_command_is_quoted_for_the_shell():
    command = demo.Command("", "t2t-decoder", {"output_dir": "my runs/a", "xla": True, "seed": 0})
    assert (
        command.typed()
        == "t2t-decoder \\\n    '--output_dir=my runs/a' \\\n    --xla \\\n    --seed=0"
    )
    assert command.words() == ["--output_dir=my runs/a", "--xla", "--seed=0"]


@pytest.fixture
def outputs(tmp_path):
    texts = {
        "en": "one\ntwo\nthree\n",
        "de": "eins sind es\nzwei sind es\ndrei sind es\n",
        "a": "eins sind es\nzwei sind es\ndrei\n",
        "b": "eins sind es\n\ndrei\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    paths = {name: str(tmp_path / name) for name in texts}
    test = _demo_report.TestFiles(paths["en"], paths["de"])
    translations = [
        _demo_report.Translations(name, _demo_chapters.decoding("", "run", test, paths[path]))
        for name, path in (("first", "a"), ("second", "b"))
    ]
    return test, translations, {"first": 12.34, "second": 5.0}


def test_report(outputs):
    text = _demo_report.report(*outputs, 3)
    assert "3 test sentences" in text
    assert re.search(r"first +\d+\.\d +67% +12\.3\n", text)
    assert re.search(r"second +\d+\.\d +33% +5\.0\n", text)
    assert "tok:13a" in text
    examples = text.split("  source")[1:]
    assert len(examples) == 3
    assert re.search(r"^  first, second +the same$", examples[0], re.M)
    assert re.search(r"^  first +the same$", examples[1], re.M)
    assert re.search(r"^  second *$", examples[1], re.M)  # an empty translation is shown as such
    assert re.search(r"^  first, second +drei$", examples[2], re.M)


def test_report_shows_at_most_all_sentences(outputs):
    assert _demo_report.report(*outputs, 99).count("  source") == 3
    assert _demo_report.report(*outputs, 0).count("  source") == 0


def test_failing_command_stops_the_demo(tmp_path, capfd):
    command = demo.Command("", "t2t-bleu", {"translation": tmp_path / "nothing", "reference": "x"})
    with pytest.raises(UsageError, match=r"t2t-bleu ended with status 2, see above.*continues"):
        demo.run(command)
    assert "t2t-bleu: error:" in capfd.readouterr().err


def test_output_of_background_commands_is_shown_afterwards(outputs, capfd):
    test, translations, _ = outputs
    score = {"translation": translations[0].path, "reference": test.reference}
    with demo.in_background(
        [demo.Command(title, "t2t-bleu", score) for title in ("Once", "Again")]
    ):
        print("meanwhile")
    output = capfd.readouterr().out
    before, after = output.split("meanwhile\n")
    assert "\n  Once\n  Again\n" in before and "BLEU = " not in before
    assert re.findall("^(Once|Again|BLEU = )", after, re.M) == [
        "Once",
        "BLEU = ",
        "Again",
        "BLEU = ",
    ]


def test_failure_in_the_background_stops_the_demo(tmp_path, capfd):
    command = demo.Command("", "t2t-bleu", {"translation": tmp_path / "nothing", "reference": "x"})
    error = pytest.raises(
        UsageError, match="command in the background ended with status 2, see above"
    )
    with error, demo.in_background([command, command]):
        pass
    assert capfd.readouterr().out.count("t2t-bleu: error:") == 1


def test_commands_are_numbered_across_parts():
    first, second = demo.numbered([all_commands()[:2], all_commands()[2:3]])
    assert [command.title[:5] for command in first + second] == ["[1/3]", "[2/3]", "[3/3]"]


@pytest.mark.parametrize("how", ["run(command)", "in_background([command]): time.sleep(60)"])
def test_stop_reaches_the_command(tmp_path, how):
    """The command is a module of its own, because the demo imports commands by name."""
    ready, stopped = tmp_path / "ready", tmp_path / "stopped"
    (tmp_path / "waiting.py").write_text(
        "import pathlib, signal, sys, time\n"
        "from absl import flags\n"
        "FLAGS = flags.FlagValues()\n"
        f"def stop(*_): pathlib.Path({str(stopped)!r}).touch(); sys.exit()\n"
        "def main(argv):\n"
        "    signal.signal(signal.SIGTERM, stop)\n"
        f"    pathlib.Path({str(ready)!r}).touch()\n"
        "    time.sleep(60)\n"
        "def entry_point(argv): main(argv)\n"
    )
    (tmp_path / "parent.py").write_text(
        "import signal, time\n"
        "from t2t_vqem.bin import t2t_demo as demo\n"
        "class Waiting(demo.Command):\n"
        "    def module(self): return 'waiting'\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGTERM, demo._exit_on_signal)\n"
        "    command = Waiting('', 't2t-waiting', {})\n"
        f"    {'with ' if ':' in how else ''}demo.{how}\n"
    )
    with subprocess.Popen([sys.executable, str(tmp_path / "parent.py")]) as process:
        wait_until(ready.exists, "the command", process=process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert stopped.exists()


@pytest.mark.slow
def test_whole_demo(tmp_path):
    argv = [sys.executable, "-m", "t2t_vqem.bin.t2t_demo"]
    argv += [f"--output_dir={tmp_path}", "--train_size=64", "--train_steps=150", "--num_examples=2"]
    argv += ["--latent_train_steps=2", "--image_train_steps=2"]
    output = subprocess.run(argv, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    for program in ("t2t-datagen", "t2t-trainer", "t2t-decoder"):
        assert f"\n$ {program} \\\n" in output
    for system in ("greedy", "beam 4", "latent"):
        assert re.search(rf"{system} +\d+\.\d +\d+% +\d+\.\d\n", output)
    assert output.count("  source") == 2
    for name in ("reconstructions", "samples"):
        path = tmp_path / f"digits.{name}.png"
        assert f"\n  {path}\n" in output
        assert path.read_bytes().startswith(b"\x89PNG")


def test_without_a_demo_there_is_nothing_to_serve(tmp_path):
    with pytest.raises(UsageError, match="has no 'latent': run t2t-demo .* without --serve"):
        _demo_serving.export_commands(str(tmp_path))


@pytest.mark.slow
def test_the_demo_s_models_are_served(tmp_path, stored_exports):
    stored = pathlib.Path(__file__).parents[1] / "stored" / "format_2.tar.xz"
    with tarfile.open(stored) as archive:
        archive.extractall(tmp_path, filter="data")
    # One model is exported here, the others are exported already.
    for name, run, export in (
        ("transformer", "transformer", "beam"),
        ("latent", "transformer_nat", "latent"),
        ("digits", "vqvae", None),
    ):
        (tmp_path / "runs" / run).rename(tmp_path / name)
        if export:
            shutil.copytree(stored_exports / export, tmp_path / "exported" / name)
    command = [sys.executable, "-m", "t2t_vqem.bin.t2t_demo", f"--output_dir={tmp_path}"]
    process = subprocess.Popen(
        [*command, "--serve", "--port=0"],
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = next(
            found[1] for line in process.stdout if (found := re.search(r"at (http://\S+)", line))
        )
        with urllib.request.urlopen(f"{address}v1/models", timeout=60) as response:
            names = [card["name"] for card in json.load(response)["models"]]
        assert names == ["latent", "transformer", "digits"]
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()
