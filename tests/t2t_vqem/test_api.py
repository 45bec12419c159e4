"""The Python API does what the commands do."""

import ast
import pathlib
import re
import subprocess
import sys
import threading

import numpy as np
import pytest

import t2t_vqem as t2t
from t2t_vqem.constants import UsageError
from t2t_vqem.export import cached
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZES = {
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "hidden_size": 16,
    "filter_size": 16,
    "num_heads": 2,
    "max_length": 32,
}
TEXTS = ["one two three", "", "😀 ten", "nine " * 40]


def test_importing_the_package_imports_nothing_heavy():
    heavy = ("tensorflow", "keras", "numpy", "sentencepiece", "absl", "gin")
    program = f"import sys, t2t_vqem; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_what_a_plug_in_declares_needs_no_tensorflow():
    program = (
        "import sys, t2t_vqem as t2t\n"
        "t2t.load, t2t.train, t2t.generate, t2t.Problem, t2t.TextProblem, t2t.ImageProblem\n"
        "t2t.option, t2t.HParams, t2t.TransformerHParams, t2t.registry.problems\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_every_public_name_is_there_for_type_checkers_and_described():
    tree = ast.parse((ROOT / "t2t_vqem" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        (node.module, alias.name)
        for node in block.body
        for alias in node.names
        if node.module != "t2t_vqem"
    }
    assert imported == {(f"t2t_vqem.{m}", n) for m, names in t2t._EXPORTS.items() for n in names}
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`t2t\.(\w+)", page))
    assert described == set(t2t.__all__)
    for name in t2t.__all__:
        assert getattr(t2t, name) is not None
        assert name in dir(t2t)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = t2t.lode


@pytest.fixture(scope="module")
def run(untrained_run, tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("run"), TransformerHParams(**SIZES))


@pytest.fixture(scope="module")
def latent_run(untrained_run, tmp_path_factory):
    hparams = TransformerNATHParams(
        **SIZES, num_predictor_layers=1, num_target_encoder_layers=1, num_codes=9, code_size=4
    )
    return untrained_run(tmp_path_factory.mktemp("latent"), hparams)


@pytest.fixture(scope="module")
def translator(run):
    with t2t.load(run.path, engine="tensorflow") as translator:
        yield translator


def test_translations_are_those_of_the_commands(translator, run):
    from t2t_vqem.decoding.options import DecodeOptions
    from t2t_vqem.inference.translate import load_translator

    wanted = list(load_translator(run, None, DecodeOptions(beam_size=3)).translate(TEXTS))
    assert translator.translate(TEXTS, beam_size=3) == [found.text for found in wanted]
    details = translator.translate(TEXTS, beam_size=3, return_details=True)
    assert [found.text for found in details] == [found.text for found in wanted]
    assert [d.score for d in details] == pytest.approx([w.score for w in wanted], rel=1e-5)
    assert not translator.has_latents


def test_several_hypotheses_are_sorted_by_score(translator):
    (found,) = translator.translate(["one two"], num_best=3, return_details=True)
    scores = [found.score, *(other.score for other in found.others)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(t2t.UsageError, match="num_best=3 needs return_details=True"):
        translator.translate(["one"], num_best=3)


def test_a_sample_depends_on_seed_and_position_alone(translator):
    texts = ["one two three four"] * 3
    first = translator.translate(texts, temperature=1.0, seed=7)
    assert first == translator.translate(texts, temperature=1.0, seed=7)
    assert len(set(first)) == 3
    assert first != translator.translate(texts, temperature=1.0, seed=8)


def test_a_single_string_is_refused(translator):
    with pytest.raises(t2t.UsageError, match=r"translate\(\[text\]\)\[0\]"):
        translator.translate("one two")


def test_an_option_out_of_range_is_explained(translator):
    with pytest.raises(t2t.UsageError, match="extra_length must be at least 1, got 0"):
        translator.translate(["one"], extra_length=0)


def test_several_threads_get_their_own_answers(translator):
    wanted = translator.translate(TEXTS)
    answers = {}

    def ask(index: int) -> None:
        answers[index] = translator.translate([TEXTS[index]])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(TEXTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[i] for i in range(len(TEXTS))] == [[text] for text in wanted]


def test_a_closed_model_says_so(run):
    translator = t2t.load(run.path, engine="tensorflow")
    translator.close()
    translator.close()
    with pytest.raises(t2t.UsageError, match="was closed: load it again"):
        translator.translate(["one"])


def test_latents_are_among_the_details(latent_run):
    with t2t.load(pathlib.Path(latent_run.path), engine="tensorflow") as translator:
        assert translator.has_latents
        (found,) = translator.translate(["one two three"], return_details=True)
        assert found.codes
        assert all(0 <= code < 9 for code in found.codes)


@pytest.mark.slow
def test_an_export_has_the_same_interface(run, translator, tmp_path):
    from t2t_vqem.export.exporter import export_run

    export_run(run, str(tmp_path / "export"), verify=False)
    with t2t.load(tmp_path / "export", int8=False, threads=1) as exported:
        assert exported.translate(TEXTS) == translator.translate(TEXTS)
        with pytest.raises(t2t.UsageError, match="beam_size is 4, but the export was made with 1"):
            exported.translate(["one"], beam_size=4)
    for settings, message in (
        ({"checkpoint": "best"}, "is an export for LiteRT, in which checkpoint"),
        ({"int8": True}, "int8=True, but .* was exported with --quantize=none"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"engine": "lite"}, "unknown engine 'lite'. Did you mean litert"),
    ):
        with pytest.raises(t2t.UsageError, match=message):
            t2t.load(tmp_path / "export", **settings)


@pytest.mark.slow
def test_a_run_translates_by_litert_as_by_tensorflow(run, translator, monkeypatch):
    monkeypatch.setattr(cached, "has_accelerator", lambda: False)
    with t2t.load(run.path, threads=1) as exported:  # auto
        assert not exported.has_latents
        assert exported.translate(TEXTS) == translator.translate(TEXTS)
        (found,) = exported.translate(["one two"], return_details=True)
        assert found.tokens  # which only exports have
        with pytest.raises(t2t.UsageError, match="extra_length must be at least 1, got 0"):
            exported.translate(["one"], extra_length=0)
    with pytest.raises(t2t.UsageError, match="is only for models with latents"):
        t2t.load(run.path, rescore_dir=run.path)
    assert len(list(pathlib.Path(run.path, "exports").iterdir())) == 1

    program = (
        "import sys, t2t_vqem as t2t\n"
        f"print(len(t2t.load({run.path!r}, engine='litert').translate(['one', ''])))\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "2", done.stderr

    monkeypatch.setattr(cached, "has_accelerator", lambda: True)
    with pytest.raises(t2t.UsageError, match="int8=True and threads=None are only for LiteRT"):
        t2t.load(run.path, int8=True)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(t2t.UsageError, match="not an output directory of t2t-trainer"):
        t2t.load(tmp_path)


@pytest.mark.slow
def test_images_from_data_to_samples(tmp_path):
    sizes = {
        "hidden_size": 8, "num_residual_blocks": 1, "residual_size": 4, "num_mixtures": 2,
        "num_codes": 12, "num_codebooks": 2, "code_size": 6, "prior_layers": 1, "prior_size": 8,
        "prior_filter_size": 8, "prior_heads": 2, "batch_size": 31,
    }  # fmt: skip
    dataset = t2t.generate("image_digits", tmp_path / "data")
    outcome = t2t.train(
        tmp_path / "run",
        problem="image_digits",
        hparams_set="vqvae_digits",
        hparams=sizes,
        data_dir=str(tmp_path / "data"),
        train_steps=2,
        xla=False,
    )
    assert outcome == (2, False)
    images = dataset.problem.make_batch(dataset.records(t2t.TEST).read(range(5)), 1)["images"]
    with t2t.load(tmp_path / "run") as codec:
        codes = codec.encode(images)
        assert codes.shape == (5, 16, 2)
        assert codes.min() >= 0
        assert codes.max() < 12
        decoded = codec.decode(codes)
        assert decoded.shape == images.shape
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(codec.reconstruct(images), decoded)
        drawn = codec.sample(3, seed=5)
        np.testing.assert_array_equal(codec.sample(2, seed=5), drawn[:2])

    # An export, which is verified on dev, has the same interface and codes.
    from t2t_vqem.export.exporter import export_run
    from t2t_vqem.output_dir import OutputDir

    manifest = export_run(OutputDir(str(tmp_path / "run")), str(tmp_path / "export"))
    assert manifest.about["verification"]["images"] == 150
    with t2t.load(tmp_path / "export") as exported:
        assert (exported.encode(images) == codes).mean() > 0.95
        sampled = exported.sample(2, seed=5)
        assert sampled.shape == (2, *images.shape[1:])
    with t2t.load(tmp_path / "run", engine="litert") as exported:
        np.testing.assert_array_equal(exported.sample(2, seed=5), sampled)


def test_an_argument_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(t2t.UsageError, match="Did you mean train_steps"):
        t2t.train(tmp_path, train_step=3)


def test_paths_of_buckets_are_refused():
    for call in (
        lambda: t2t.load("gs://bucket/run"),
        lambda: t2t.generate("image_digits", data_dir="s3://bucket/data"),
        lambda: t2t.generate("translate_text", data_dir="data", source_dir="gs://bucket/text"),
        lambda: t2t.train("gs://bucket/run", problem="image_digits"),
    ):
        with pytest.raises(UsageError, match="bucket/.* is not on this machine, .* Mount the buck"):
            call()
