"""A latent model starts from its teacher's weights."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams
from t2t_vqem.models.base import Model
from t2t_vqem.output_dir import OutputDir, make_model, named_weights
from t2t_vqem.training import trainer
from t2t_vqem.training.warm_start import warm_start

SIZES = {
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "hidden_size": 8,
    "filter_size": 12,
    "num_heads": 2,
    "max_length": 32,
}
TEACHER = TransformerHParams(**SIZES)
STUDENT = TransformerNATHParams(
    **SIZES, num_predictor_layers=1, num_target_encoder_layers=1, num_codes=6, code_size=4
)


@pytest.fixture(scope="module")
def vocabulary(tiny_text_data):
    return tiny_text_data.dataset.vocabulary


@pytest.fixture(scope="module")
def teacher_dir(untrained_run, tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("teacher"), TEACHER)


def student(problem, vocabulary, **changes):
    tf.keras.utils.set_random_seed(2)
    model = make_model(dataclasses.replace(STUDENT, **changes), problem, vocabulary)
    model.build_variables()
    return model


def test_weights_of_the_same_name_are_the_teachers(tiny_text_data, teacher_dir, vocabulary):
    model = student(tiny_text_data.dataset.problem, vocabulary)
    before = {v.path: v.numpy() for v in model.variables}
    assert not warm_start(model, teacher_dir.path, vocabulary=vocabulary)
    teacher = teacher_dir.build_model()
    teacher_dir.restore_for_inference(teacher)
    theirs = {v.path: v.numpy() for v in teacher.variables}
    begun = set()
    for variable in model.variables:
        path = variable.path
        source = path.replace("predictor/stack/block_0", "decoder/block_0")
        if source in theirs:
            np.testing.assert_array_equal(variable.numpy(), theirs[source], err_msg=path)
            begun.add(path.split("/")[0])
        else:
            np.testing.assert_array_equal(variable.numpy(), before[path], err_msg=path)
    assert begun == {"embedding", "encoder", "decoder", "predictor"}


def test_a_latent_model_copies_the_codes_of_another_but_not_its_predictor(
    tiny_text_data, untrained_run, vocabulary, tmp_path
):
    other_dir = untrained_run(tmp_path, STUDENT)
    model = student(tiny_text_data.dataset.problem, vocabulary)
    assert warm_start(model, other_dir.path, vocabulary=vocabulary)
    other = other_dir.build_model()
    other_dir.restore_for_inference(other)
    for ours, theirs in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


def test_weights_of_other_sizes_are_an_error(tiny_text_data, teacher_dir, vocabulary):
    model = student(tiny_text_data.dataset.problem, vocabulary, hidden_size=10, filter_size=14)
    with pytest.raises(UsageError, match="no weight of that .* matches .* same hidden_size"):
        warm_start(model, teacher_dir.path, vocabulary=vocabulary)


@pytest.fixture(scope="module")
def other_vocabulary(tmp_path_factory):
    """A vocabulary with some of the pieces of the toy text, at other ids, and some of its own."""
    lines = ["sieben acht neun zehn elf zwanzig hundert tausend Bäume am Wasser"] * 50
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.model"
    return Vocabulary.train(lines, 330, str(path), seed=1)


def test_rows_of_the_pieces_that_another_vocabulary_shares_are_kept(
    tiny_text_data, teacher_dir, vocabulary, other_vocabulary, caplog
):
    model = student(tiny_text_data.dataset.problem, other_vocabulary)
    before = model.embedding.table.numpy()
    with caplog.at_level("INFO"):
        warm_start(model, teacher_dir.path, vocabulary=other_vocabulary)
    teacher = teacher_dir.build_model()
    teacher_dir.restore_for_inference(teacher)
    theirs = {vocabulary.piece(i): row for i, row in enumerate(teacher.embedding.table.numpy())}
    ours = [other_vocabulary.piece(i) for i in range(other_vocabulary.size)]
    kept = [piece for piece in ours if piece in theirs]
    moved = [i for i, piece in enumerate(ours) if piece in kept and vocabulary.piece(i) != piece]
    assert {"<pad>", "</s>", "<0x0A>"} < set(kept) < set(ours) and moved
    expected = [theirs.get(piece, row) for piece, row in zip(ours, before, strict=True)]
    np.testing.assert_array_equal(model.embedding.table.numpy(), expected)
    np.testing.assert_array_equal(
        model.encoder.blocks[0].attention_norm.gamma.numpy(),
        teacher.encoder.blocks[0].attention_norm.gamma.numpy(),
    )
    assert f"{len(kept)} of {len(ours)} pieces are in the vocabulary of that run" in caplog.text


def test_a_model_that_does_not_name_its_rows_needs_the_same_vocabulary(
    tiny_text_data, teacher_dir, vocabulary, other_vocabulary, monkeypatch
):
    model = student(tiny_text_data.dataset.problem, other_vocabulary)
    monkeypatch.setattr(type(model), "token_variables", Model.token_variables)
    with pytest.raises(UsageError, match="another vocabulary, and .* define token_variables"):
        warm_start(model, teacher_dir.path, vocabulary=other_vocabulary)
    with pytest.raises(UsageError, match="that run has another vocabulary"):
        warm_start(model, teacher_dir.path, vocabulary=None)


def test_a_folder_without_a_run_is_an_error(tiny_text_data, vocabulary, tmp_path):
    model = student(tiny_text_data.dataset.problem, vocabulary)
    with pytest.raises(UsageError, match="is not an output directory of t2t-trainer"):
        warm_start(model, str(tmp_path), vocabulary=vocabulary)


@pytest.mark.slow
def test_a_run_remembers_what_it_began_with(tiny_text_data, teacher_dir, tmp_path):
    """It can be resumed and evaluated without the flag and without the teacher's folder."""
    sizes = ",".join(f"{k}={v}" for k, v in SIZES.items())
    request = trainer.Request(
        output_dir=str(tmp_path / "run"),
        problem=tiny_text_data.problem_name,
        hparams_set="transformer_nat_tiny",
        hparams=f"{sizes},num_codes=6,code_size=4,num_buckets=1,batch_size=300,masking_steps=2",
        data_dir=tiny_text_data.data_dir,
        warm_start_from=teacher_dir.path,
        train_steps=2,  # when masking ends and the codebook is initialised
        xla=False,
    )
    assert trainer.run(request).step == 2
    settings = OutputDir(request.output_dir).settings()
    assert settings.warm_start_from == teacher_dir.path
    again = trainer.Request(output_dir=request.output_dir, train_steps=4, xla=False)
    assert trainer.run(again).step == 4
    unbroken = dataclasses.replace(request, output_dir=str(tmp_path / "unbroken"), train_steps=4)
    assert trainer.run(unbroken).step == 4
    ours, others = (
        tf.train.load_checkpoint(OutputDir(path).find_checkpoint("latest"))
        for path in (request.output_dir, unbroken.output_dir)
    )
    names = [name for name in ours.get_variable_to_shape_map() if name.startswith("model/")]
    assert len(names) > 50
    for name in names:
        np.testing.assert_array_equal(ours.get_tensor(name), others.get_tensor(name), err_msg=name)
    with open(tmp_path / "run" / "metrics.jsonl", encoding="utf-8") as file:
        evaluation = [line for line in file if '"eval"' in line][-1]
    for name in ("bleu", "reconstruction_bleu", "latent_accuracy", "perplexity", "repeats"):
        assert f'"{name}"' in evaluation
    assert '"length_error"' in evaluation


@pytest.mark.slow
@pytest.mark.parametrize(("masking_steps", "kept"), [(0, True), (1, False)])
def test_warm_started_codes_are_kept_unless_masking_comes_first(
    tiny_text_data, untrained_run, tmp_path, masking_steps, kept
):
    other_dir = untrained_run(tmp_path / "other", STUDENT)
    other = other_dir.build_model()
    other_dir.restore_for_inference(other)
    other.quantizer.start(np.random.default_rng(0).normal(size=[60, 4]))
    tf.train.Checkpoint(model=named_weights(other)).save(other_dir.join("best", "ckpt"))
    sizes = ",".join(f"{k}={v}" for k, v in SIZES.items())
    request = trainer.Request(
        output_dir=str(tmp_path / "run"),
        problem=tiny_text_data.problem_name,
        hparams_set="transformer_nat_tiny",
        hparams=f"{sizes},num_predictor_layers=1,num_target_encoder_layers=1,num_codes=6,"
        f"code_size=4,num_buckets=1,batch_size=300,masking_steps={masking_steps},"
        "codebook_decay=1.0,revive_below=0.0",
        data_dir=tiny_text_data.data_dir,
        warm_start_from=other_dir.path,
        train_steps=2,
        xla=False,
    )
    assert trainer.run(request).step == 2
    run_dir = OutputDir(request.output_dir)
    model = run_dir.build_model()
    run_dir.restore_for_inference(model)
    codes = [m.quantizer.codebooks.numpy() for m in (other, model)]
    assert np.allclose(*codes, atol=1e-5) == kept
