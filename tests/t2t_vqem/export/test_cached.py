"""The export of a run is made when something that it depends on has changed, and only then."""

import os
import pathlib
import shutil
import threading

import pytest

import t2t_vqem
from t2t_vqem import registry
from t2t_vqem.constants import NotExportableError, UsageError
from t2t_vqem.export import cached
from tests.conftest import wait_until

ASKED = {"checkpoint": None, "graph": cached.graph_of(), "quantize": "none", "rescore_dir": None}


def write_checkpoints(run, **contents):
    """Writes the files by which a checkpoint is found and identified."""
    for folder, content in contents.items():
        (run / folder).mkdir(parents=True, exist_ok=True)
        (run / folder / "ckpt-1.index").write_text(content)
        (run / folder / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\n')
    return run


@pytest.fixture
def run(tmp_path):
    return write_checkpoints(tmp_path / "run", best="b", checkpoints="c", averaged="a")


@pytest.fixture
def made(stored_exports, monkeypatch, tmp_path):
    """Folders that were written. A stored export takes the place of a new one, which is slow."""
    folders = []

    def export(run, folder, *arguments):
        shutil.copytree(stored_exports / "greedy", folder)
        folders.append(folder)

    monkeypatch.setattr(cached, "_export", export)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folders


def load(run, **changes):
    model = cached.load_cached(str(run), **{**ASKED, **changes})
    assert [h.text for h in model.translate([""])] == [""]


def test_export_is_made_once(run, made):
    for _ in range(2):
        load(run)
    load(run, threads=1)
    load(run, checkpoint="best")
    load(run, checkpoint=f"{run}/best/ckpt-1")
    assert len(made) == 1
    assert pathlib.Path(made[0]).parent == run / "exports"


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint": "latest"},
        {"checkpoint": "averaged"},
        {"graph": cached.graph_of(beam_size=4)},
        {"graph": cached.graph_of(num_best=2)},
        {"graph": cached.graph_of(num_candidates=2)},
        {"graph": cached.graph_of(keep_repeats=True)},
        {"quantize": "int8"},
    ],
    ids=str,
)
def test_another_export_has_another_place(run, made, change):
    load(run)
    load(run, **change)
    load(run, **change)
    load(run)
    assert len(set(made)) == len(made) == 2


def test_drawn_candidates_are_another_graph_and_drawn_tokens_are_not():
    drawn, found = (
        cached.graph_of(num_candidates=3, sampling_temperature=temperature)
        for temperature in (0.5, 0.0)
    )
    assert drawn != found
    assert cached.graph_of(sampling_temperature=0.5) == cached.graph_of()


def test_weights_rescorer_and_version_belong_to_it(run, made, monkeypatch, tmp_path):
    load(run)
    load(write_checkpoints(run, best="trained further"))
    teacher = write_checkpoints(tmp_path / "teacher", best="t")
    load(run, rescore_dir=str(teacher))
    write_checkpoints(teacher, best="another teacher")
    load(run, rescore_dir=str(teacher))
    monkeypatch.setattr(t2t_vqem, "__version__", "0.0.1")
    load(run)
    assert len(set(made)) == len(made) == 5


def test_code_of_a_plug_in_belongs_to_it(run, made, monkeypatch, tmp_path):
    code = tmp_path / "mine" / "models" / "model.py"
    code.parent.mkdir(parents=True)
    monkeypatch.setattr(registry, "_usr_dirs", {str(tmp_path / "mine")})
    for text, expected in (("x = 1", 1), ("x = 1", 1), ("x = 2", 2)):
        code.write_text(text)
        load(run)
        assert len(made) == expected


def test_only_the_newest_are_kept(run, made):
    for beam_size in range(1, 7):
        load(run, graph=cached.graph_of(beam_size=beam_size))
        os.utime(made[-1], (beam_size, beam_size))
    left = {str(path) for path in (run / "exports").iterdir()}
    assert left == set(made[-4:])


def test_export_of_a_read_only_run_is_in_the_users_cache(run, made, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(run))
    load(run)
    load(run)
    (folder,) = made
    assert pathlib.Path(folder).parent == tmp_path / "cache" / "t2t-vqem" / "exports"
    assert not (run / "exports").exists()

    monkeypatch.setenv("XDG_CACHE_HOME", str(run / "best" / "ckpt-1.index"))  # no folder
    with pytest.raises(NotExportableError, match="cannot be written .* Set XDG_CACHE_HOME"):
        load(run)


@pytest.mark.parametrize("name", ["model.tflite", "manifest.json", "vocab.model"])
def test_damaged_export_is_made_again(run, made, caplog, name):
    load(run)
    pathlib.Path(made[0], name).write_bytes(b"{")
    load(run)
    assert "the run is exported again" in caplog.text
    assert made[0] == made[1]
    load(run)
    assert len(made) == 2


def test_another_process_that_exports_is_waited_for(run, made, monkeypatch):
    export, started, released = cached._export, threading.Event(), threading.Event()

    def slow_export(*arguments):
        started.set()
        assert released.wait(60)
        export(*arguments)

    monkeypatch.setattr(cached, "_export", slow_export)
    loaded = []
    threads = [threading.Thread(target=lambda: loaded.append(load(run))) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(started.is_set, "the export has begun")
    released.set()
    for thread in threads:
        thread.join()
    assert len(loaded) == 2
    assert len(made) == 1


def test_missing_checkpoint_is_explained(run, made):
    with pytest.raises(UsageError, match="is not an output directory|there is no checkpoint"):
        load(run, checkpoint="missing")
    assert not made
