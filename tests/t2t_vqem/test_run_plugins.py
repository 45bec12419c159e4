"""A run never chooses which code is imported."""

import json
import os
import pathlib
import shutil
import sys

import pytest

import t2t_vqem as t2t
from t2t_vqem import registry, run_plugins
from t2t_vqem.bin import _main, t2t_avg_all, t2t_decoder, t2t_exporter
from t2t_vqem.constants import UsageError

NAMES = {"problem": "translate_text", "model": "transformer"}


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """An empty state folder, and no plug-ins named so far."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(registry, "_usr_dirs", set())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("plug_in_"):
            del sys.modules[name]


@pytest.fixture
def plugin(tmp_path):
    """A plug-in that leaves a trace when it is imported."""
    return write_plugin(tmp_path / "plug_in_of_tests")


def write_plugin(folder):
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "import pathlib\n(pathlib.Path(__file__).parent / 'imported').touch()\n"
    )
    return folder


def was_imported(plugin):
    return (plugin / "imported").exists()


def write_run(folder, plugin, **changes):
    folder.mkdir(exist_ok=True)
    flags = {**NAMES, "t2t_usr_dir": str(plugin), "seed": 1, **changes}
    (folder / "flags.json").write_text(json.dumps(flags))
    return folder


def load(run, plugin, **names):
    flags = os.path.join(run, "flags.json")
    run_plugins.load(str(run), flags, str(plugin), **{**NAMES, **names})


def remember(run, plugin):
    run_plugins.remember(str(run), os.path.join(run, "flags.json"), str(plugin))


def test_plugin_of_a_received_run_is_not_imported(tmp_path, plugin):
    run = write_run(tmp_path / "run", plugin)
    with pytest.raises(UsageError, match=rf"If you trust .*--t2t_usr_dir={plugin} \(in Python"):
        load(run, plugin)
    assert not was_imported(plugin)


def test_plugin_of_an_own_run_is_imported(tmp_path, plugin, monkeypatch):
    run = write_run(tmp_path / "run", plugin)
    remember(run, plugin)
    monkeypatch.chdir(tmp_path)
    load("run", plugin)
    assert was_imported(plugin)


def test_remembered_folder_is_imported_and_not_the_one_in_the_run(tmp_path, plugin, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = write_run(tmp_path / "run", plugin.name)
    remember(run, plugin.name)  # relative to where the trainer was called
    other = write_plugin(tmp_path / "elsewhere" / plugin.name)
    monkeypatch.chdir(other.parent)
    load(run, plugin.name)
    assert was_imported(plugin) and not was_imported(other)


@pytest.mark.parametrize("place", ["moved", "replaced"])
def test_moved_or_replaced_run_is_not_remembered(tmp_path, plugin, place):
    run = write_run(tmp_path / "run", plugin)
    remember(run, plugin)
    if place == "moved":
        run = run.rename(tmp_path / "moved")
    else:  # as on another machine with the same home, where that path holds another run
        write_run(run, plugin, seed=2)
    with pytest.raises(UsageError, match="not known that you trained this run here"):
        load(run, plugin)
    assert not was_imported(plugin)


def test_named_plugin_takes_the_place_of_a_recorded_one(tmp_path, plugin):
    moved = write_plugin(tmp_path / "elsewhere" / plugin.name)
    registry.load_plugins(str(moved))
    load(write_run(tmp_path / "run", plugin), plugin)
    assert was_imported(moved) and not was_imported(plugin)


def test_named_plugin_of_another_name_must_register_what_the_run_needs(tmp_path, plugin):
    registry.load_plugins(str(write_plugin(tmp_path / "plug_in_renamed")))
    run = write_run(tmp_path / "run", plugin)
    load(run, plugin)
    with pytest.raises(UsageError, match="If you trust"):
        load(run, plugin, model="their_model")
    assert not was_imported(plugin)


@pytest.mark.parametrize("damage", ["", "[]", "{}", "{"])
def test_damaged_memory_remembers_nothing(tmp_path, plugin, damage):
    run = write_run(tmp_path / "run", plugin)
    remember(run, plugin)
    (memory,) = (tmp_path / "state" / "t2t-vqem" / "runs").iterdir()
    memory.write_text(damage)
    with pytest.raises(UsageError, match="If you trust"):
        load(run, plugin)


def test_read_only_home_gives_a_warning(tmp_path, plugin, caplog):
    (tmp_path / "state").write_text("a file where a folder should be")
    run = write_run(tmp_path / "run", plugin)
    remember(run, plugin)
    assert f"later commands for {run} need --t2t_usr_dir={plugin}" in caplog.text


def received(untrained_run, tmp_path, plugin, **checkpoints):
    """A complete run of somebody else's, which names a plug-in here."""
    from t2t_vqem.hparams.transformer import TransformerHParams

    sizes = {"hidden_size": 8, "filter_size": 8, "num_heads": 2, "max_length": 32}
    hparams = TransformerHParams(num_encoder_layers=1, num_decoder_layers=1, **sizes)
    run = untrained_run(tmp_path / "received", hparams, **checkpoints)
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    path = pathlib.Path(run.join("flags.json"))
    flags = json.loads(path.read_text())
    path.write_text(json.dumps({**flags, "t2t_usr_dir": str(plugin)}))
    return run.path


def test_commands_and_api_import_it_only_if_it_is_named(untrained_run, tmp_path, plugin, capfd):
    run = received(untrained_run, tmp_path, plugin, checkpoints=1)
    for command, *arguments in (
        (t2t_decoder, "--decode_split=test"),
        (t2t_exporter, f"--export_dir={tmp_path}/exported"),
        (t2t_avg_all, "--n=1"),
    ):
        argv = ["command", f"--output_dir={run}", *arguments]
        with pytest.raises(SystemExit) as caught:
            _main.run(command.main, command.FLAGS, argv)
        assert caught.value.code, command
        assert f"name its folder: --t2t_usr_dir={plugin}" in capfd.readouterr().err
    with pytest.raises(UsageError, match="If you trust"):
        t2t.load(run)
    assert not was_imported(plugin)
    with t2t.load(run, t2t_usr_dir=plugin, engine="tensorflow") as translator:
        assert not translator.has_latents
    assert was_imported(plugin)


def test_trainer_remembers_a_run_that_it_continues(
    tiny_text_data, untrained_run, tmp_path, plugin, monkeypatch
):
    run = received(untrained_run, tmp_path, plugin)
    request = {"data_dir": tiny_text_data.data_dir, "train_steps": 0}
    with pytest.raises(UsageError, match="If you trust"):
        t2t.train(run, **request)
    t2t.train(run, t2t_usr_dir=os.path.relpath(plugin), **request)
    monkeypatch.setattr(registry, "_usr_dirs", set())  # as in another process
    t2t.train(run, **request)
