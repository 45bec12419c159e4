import dataclasses
import pathlib
import shutil

import pytest
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.files import write_file
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.output_dir import OutputDir, RunSettings, named_weights

HPARAMS = TransformerHParams(
    num_encoder_layers=1, num_decoder_layers=2, hidden_size=6, filter_size=10, num_heads=2
)


@pytest.fixture
def settings(tiny_text_data):
    dataset = tiny_text_data.dataset
    return RunSettings(
        problem=tiny_text_data.problem_name,
        problem_config=dataset.problem.config,
        hparams=HPARAMS,
        gin_text="transformer.hidden_size = 6\n",
        data_dir=tiny_text_data.data_dir,
        data_source=dataset.manifest["source"],
        vocabulary=dataset.vocabulary.hash,
        seed=3,
        train_steps=50,
        hparams_set="transformer_tiny",
    )


@pytest.fixture
def output_dir(tmp_path, settings, tiny_text_data):
    output_dir = OutputDir(str(tmp_path / "run"))
    assert not output_dir.has_run()
    output_dir.save(settings, tiny_text_data.dataset.vocabulary)
    assert output_dir.has_run()
    return output_dir


def write_checkpoint(output_dir, model, name="checkpoints/ckpt-5", part="model"):
    folder = pathlib.Path(output_dir.join(name)).parent
    checkpoint = tf.train.Checkpoint(**{part: named_weights(model)})
    path = checkpoint.write(output_dir.join(name))
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{pathlib.Path(path).name}"\n')
    return path


def test_settings_come_back(output_dir, settings, tiny_text_data):
    assert output_dir.settings() == settings
    assert output_dir.hparams() == HPARAMS
    problem = output_dir.problem()
    assert type(problem) is type(tiny_text_data.dataset.problem)
    assert problem.config == tiny_text_data.dataset.problem.config
    assert output_dir.vocabulary().hash == settings.vocabulary


def test_a_moved_folder_is_still_a_run(output_dir, tmp_path, settings):
    path = write_checkpoint(output_dir, output_dir.build_model())
    moved = OutputDir(str(tmp_path / "moved"))
    shutil.move(output_dir.path, moved.path)
    assert moved.settings() == settings
    assert moved.find_checkpoint() == path.replace("/run/", "/moved/")


def test_field_that_was_added_later_has_its_default(output_dir):
    path = pathlib.Path(output_dir.join("hparams.json"))
    text = "\n".join(line for line in path.read_text().splitlines() if "clip_norm" not in line)
    path.write_text(text)
    assert output_dir.hparams().clip_norm == TransformerHParams().clip_norm


def test_same_settings_may_be_elsewhere_and_train_longer(output_dir, settings):
    output_dir.check_same(
        dataclasses.replace(settings, data_dir="elsewhere", train_steps=99, hparams_set=None)
    )
    assert output_dir.settings() == settings  # which are not replaced by them


def test_other_settings_are_all_listed(output_dir, settings):
    hparams = dataclasses.replace(HPARAMS, dropout=0.5, num_heads=3)
    other = dataclasses.replace(settings, hparams=hparams, seed=4)
    with pytest.raises(UsageError, match="holds a run with other settings") as caught:
        output_dir.check_same(other)
    for line in (
        "seed: the run has 3, now 4",
        "transformer.dropout: the run has 0.1, now 0.5",
        "transformer.num_heads: the run has 2, now 3",
        "use another --output_dir",
    ):
        assert line in str(caught.value)
    assert str(caught.value).count("the run has") == 3


def test_other_vocabulary_is_refused(output_dir, settings):
    with pytest.raises(UsageError, match="vocabulary of the data .* is not the one that the run"):
        output_dir.check_same(dataclasses.replace(settings, vocabulary="0" * 64))


def test_changed_vocabulary_file_is_refused(output_dir, tiny_text_data, tmp_path):
    path = output_dir.join("vocab.model")
    other = type(output_dir.vocabulary()).train(["other text here"] * 9, 300, path, seed=0)
    with pytest.raises(UsageError, match=f"hash is {other.hash[:12]}, expected"):
        output_dir.vocabulary()


def test_folder_without_a_run(tmp_path):
    with pytest.raises(UsageError, match=r"not an output directory of t2t-trainer.*no flags\.json"):
        OutputDir(str(tmp_path)).settings()


def test_damaged_file_is_named(output_dir):
    pathlib.Path(output_dir.join("flags.json")).write_text("{")
    with pytest.raises(UsageError, match=r"flags\.json cannot be read"):
        output_dir.settings()


def test_best_comes_before_latest(output_dir):
    with pytest.raises(UsageError, match="there is no checkpoint for the run in"):
        output_dir.find_checkpoint()
    model = output_dir.build_model()
    latest = write_checkpoint(output_dir, model)
    assert output_dir.find_checkpoint() == latest
    best = write_checkpoint(output_dir, model, "best/ckpt-3")
    assert output_dir.find_checkpoint() == best
    assert output_dir.find_checkpoint("latest") == latest
    assert output_dir.find_checkpoint(f"{latest}.index") == latest
    for missing in ("averaged", "best/ckpt-4"):
        with pytest.raises(UsageError, match=f"no checkpoint '{missing}'"):
            output_dir.find_checkpoint(missing)


@pytest.mark.parametrize("part", ["model", "averaged"])
def test_every_weight_is_restored(output_dir, part):
    model, other = output_dir.build_model(), output_dir.build_model()
    for index, variable in enumerate(model.variables):
        variable.assign(tf.fill(variable.shape, float(index + 1)))
    write_checkpoint(output_dir, model, part=part)
    output_dir.restore_for_inference(other)
    for index, variable in enumerate(other.variables):
        assert (variable.numpy() == index + 1).all(), variable.path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_decoder_layers": 3},
            r"cannot be restored into the model 'transformer': .*unmatched",
        ),
        ({"num_decoder_layers": 1}, r"has \d+ variables, the model 'transformer' has \d+"),
        ({"hidden_size": 8}, r"cannot be restored into the model 'transformer': .*[Ss]hape"),
    ],
)
def test_checkpoint_of_another_model(output_dir, settings, change, message):
    write_checkpoint(output_dir, output_dir.build_model())
    hparams = dataclasses.replace(HPARAMS, **change)
    output_dir.save(dataclasses.replace(settings, hparams=hparams), output_dir.vocabulary())
    with pytest.raises(UsageError, match=message):
        output_dir.restore_for_inference(output_dir.build_model())


def test_write_file_leaves_what_was_there_when_it_fails(tmp_path):
    path = tmp_path / "file"
    write_file(str(path), b"first")
    with pytest.raises(TypeError):
        write_file(str(path), "not bytes")
    assert path.read_bytes() == b"first"
