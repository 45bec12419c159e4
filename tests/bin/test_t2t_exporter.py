"""t2t-exporter from a run to files that translate as the run does."""

import dataclasses
import json
import os
import pathlib
import sys

import pytest
from tensorflow.lite.tools import flatbuffer_utils

import t2t_vqem as t2t
from t2t_vqem import registry, runtime
from t2t_vqem.bin import _main, t2t_exporter
from t2t_vqem.hparams.transformer import TransformerHParams

SIZES = {"num_encoder_layers": 1, "num_decoder_layers": 1, "num_heads": 2, "max_length": 32}


@pytest.fixture
def export(tmp_path, capsys):
    """Runs the command on a run; returns the folder and what was printed."""

    def call(run, name, *arguments):
        folder = tmp_path / name
        argv = ["t2t-exporter", f"--output_dir={run.path}", f"--export_dir={folder}", *arguments]
        with pytest.raises(SystemExit) as caught:
            _main.run(t2t_exporter.main, t2t_exporter.FLAGS, argv)
        captured = capsys.readouterr()
        assert not caught.value.code, captured.err
        return folder, captured.out

    return call


def operations(path: pathlib.Path) -> set[bytes]:
    """Returns the names of the operations in a model file that are not builtin."""
    content = flatbuffer_utils.convert_bytearray_to_object(bytearray(path.read_bytes()))
    assert len(content.operatorCodes) > 5
    return {code.customCode for code in content.operatorCodes if code.customCode}


def bleu_of(printed: str, name: str) -> float:
    return float(printed.partition(f"  {name}: ")[2].partition("\n")[0])


@pytest.mark.slow
def test_float32_is_exact_and_int8_is_small(export, untrained_run, tmp_path):
    pytest.importorskip("ctranslate2")
    hparams = TransformerHParams(**SIZES, hidden_size=192, filter_size=1024)
    run = untrained_run(tmp_path / "run", hparams)
    options = "--decode_hparams=extra_length=4"
    exact, printed = export(run, "exact", options)
    assert f"{exact}: verified on dev\n" in printed
    assert "  lines: 40\n  equal_texts: 40\n" in printed
    assert "  bleu_of_run: " in printed
    small, printed = export(run, "small", options, "--quantize=int8")
    assert abs(bleu_of(printed, "bleu") - bleu_of(printed, "bleu_of_run")) < 1
    sizes = [os.path.getsize(folder / "model.tflite") for folder in (exact, small)]
    assert sizes[1] < 0.35 * sizes[0]
    for folder in (exact, small):
        assert operations(folder / "model.tflite") == set()
        card, manifest = (folder / "README.md").read_text(), runtime.load(str(folder)).manifest
        assert manifest.about["verification"]["lines"] == 40
        assert f'runtime.load("{folder.name}")' in card
        assert manifest.about["verification"]["bleu"]["signature"] in card
        test = manifest.about["test"]
        assert (test["split"], test["lines"]) == ("test", 30)
        for score in ("bleu", "chrf"):
            assert test[score]["signature"] in card
        assert "| examples of train | 2,000 |" in card
        assert "hidden_size = 192\n" in card and "vocab_size = 320\n" in card
        assert f"| size of model.tflite | {sizes[folder == small] / 2**20:.1f} MiB |" in card

    # CTranslate2 in 8 bits, loaded by the package of that name alone.
    folder, printed = export(run, "peer", options, "--quantize=int8", "--format=ctranslate2")
    assert abs(bleu_of(printed, "bleu") - bleu_of(printed, "bleu_of_run")) < 1
    assert json.loads((folder / "manifest.json").read_text())["quantize"] == "int8"
    assert os.path.getsize(folder / "ctranslate2" / "model.bin") < 0.35 * sizes[0]
    import ctranslate2

    translator = ctranslate2.Translator(str(folder / "ctranslate2"))
    assert translator.compute_type.startswith("int8")
    (found,) = translator.translate_batch([["\u2581one", "</s>"]], beam_size=1)
    assert found.hypotheses[0]


PLUGIN = '''
import dataclasses
import t2t_vqem as t2t

@t2t.registry.model_hparams.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class PluggedHParams(t2t.TransformerHParams):
    """Of a plug-in."""

@t2t.registry.models.register()
class Plugged(t2t.Transformer):
    """Of a plug-in."""
'''


@pytest.mark.slow
def test_plug_in_in_bfloat16_is_exported_in_float32(export, untrained_run, tmp_path):
    folder = tmp_path / "plug_in_to_export"
    folder.mkdir()
    (folder / "__init__.py").write_text(PLUGIN)
    with registry.models.temporary(), registry.model_hparams.temporary():
        registry.load_plugins(str(folder))
        hparams = sys.modules[folder.name].PluggedHParams(
            **SIZES, hidden_size=16, filter_size=16, dtype="bfloat16"
        )
        run = untrained_run(tmp_path / "run", hparams)
        assert run.build_model().compute_dtype == "bfloat16"
        path, printed = export(run, "exported", "--decode_hparams=extra_length=4")
        assert "  split: test\n  lines: 30\n  bleu: " in printed
        # Verified against the same weights in float32: all texts are equal.
        assert "  lines: 40\n  equal_texts: 40\n" in printed
        lines = ["one two three", "ten"]
        float32 = dataclasses.replace(hparams, dtype="float32")
        same = untrained_run(tmp_path / "same", float32)
        for name in ("ckpt-1.index", "ckpt-1.data-00000-of-00001"):
            (tmp_path / "same" / "best" / name).write_bytes(
                (tmp_path / "run" / "best" / name).read_bytes()
            )
        with t2t.load(same.path, engine="tensorflow") as translator:
            wanted = translator.translate(lines, extra_length=4)
    # The runtime needs no plug-in.
    model = runtime.load(str(path))
    assert model.manifest.model == "plugged"
    assert [h.text for h in model.translate(lines)] == wanted


def test_stored_models_have_only_builtin_operations(stored_exports):
    paths = sorted(stored_exports.glob("*/model.tflite"))
    assert len(paths) == 6
    for path in paths:
        assert operations(path) == set(), path
