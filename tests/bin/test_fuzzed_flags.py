"""With any flags, a command does its work or prints one message; it never fails otherwise."""

import importlib
import io
import logging
import pathlib
import shutil
import sys

import hypothesis
import hypothesis.strategies as st
import pytest
from absl import flags

from t2t_vqem.bin import _main

SIZES = "num_encoder_layers=1,num_decoder_layers=1,hidden_size=8,filter_size=8,num_heads=2"
SETTINGS = hypothesis.settings(
    deadline=None,
    derandomize=True,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
# Values for any flag: numbers out of range and too long, no numbers, paths of all kinds ({} is the
# folder of the test), names of other kinds of objects, lists that end early, gin.
VALUES = (
    *("", " ", "-1", "0", "1", "2", "1.5", "nan", "inf", "1e400", "9" * 30, "-" + "9" * 30, "0x1"),
    *("true", "none", "x", "ä😀", "a,b", ",", "=", "x=", "=1", "hidden_size=", "hidden_size=9" * 2),
    *(
        "vocab_size=-1",
        "max_length=1e9",
        "dropout=2",
        "dtype=int8",
        "name='",
        "hidden_size=(",
        "%x",
    ),
    *(
        "{}",
        "{}/none",
        "{}/empty",
        "{}/garbage",
        "{}/binary",
        "{}/none/none",
        "/proc/self/fdinfo",
        "/dev/null",
    ),
    *("transformer", "transformer_tiny", "vqvae_digits", "translate_text", "image_folder", "best"),
    *("latest", "averaged", "test", "dev", "cpu:0", "cpu:9", "gpu:0", "tpu", "multi_worker"),
    *("transformer.hidden_size=x", "transformer.hidden_size=%x", "a/transformer.dropout=0.1"),
    *("include 'none'", "import none", "transformer.nothing=1", "a=b=c", "hidden_size=8\n,,"),
)
# Left out, because it is valid and would take far too long.
ENDLESS = ("train_steps", "9" * 30)


@pytest.fixture(scope="module")
def folder(tiny_text_data, tmp_path_factory):
    """A folder with a run, files of all kinds, and two files to score."""
    path = tmp_path_factory.mktemp("fuzzed")
    (path / "empty").write_bytes(b"")
    (path / "garbage").write_text("transformer.hidden_size = (\n")
    (path / "binary").write_bytes(bytes(range(256)) * 3)
    (path / "lines").write_text("one two\nthree\n")
    with pytest.MonkeyPatch.context() as patch:
        assert not run("t2t_trainer", base("t2t_trainer", tiny_text_data, path), patch)
    (path / "new").rename(path / "run")
    return path


def base(command: str, data, path: pathlib.Path) -> list[str]:
    """Returns valid arguments of the command."""
    text = [f"--problem={data.problem_name}", f"--problem_params={data.problem_params}"]
    return {
        "t2t_datagen": [*text, f"--source_dir={data.source_dir}", f"--data_dir={path}/new"],
        "t2t_trainer": [
            *text,
            "--hparams_set=transformer_tiny",
            f"--hparams={SIZES},batch_size=64,num_buckets=1,max_length=8",
            f"--data_dir={data.data_dir}",
            f"--output_dir={path}/new",
            "--train_steps=1",
            "--schedule=train",
            "--noxla",
        ],
        "t2t_decoder": [
            f"--output_dir={path}/run",
            f"--decode_from_file={path}/lines",
            f"--decode_to_file={path}/new",
            "--noxla",
        ],
        "t2t_bleu": [f"--translation={path}/lines", f"--reference={path}/lines"],
        "t2t_avg_all": [f"--output_dir={path}/run", "--n=1"],
        "t2t_make_tf_configs": ["--workers=one:1,two:2"],
    }[command]


def run(command: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int | None:
    """Runs the command in this process and returns its status."""
    module = importlib.import_module(f"t2t_vqem.bin.{command}")
    values: flags.FlagValues = module.FLAGS
    for name in values:
        values[name].unparse()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(SystemExit) as caught:
        _main.run(module.main, values, [command, *arguments])
    return caught.value.code


def check(command: str, num_examples: int, data, folder, capfd, monkeypatch) -> None:
    """Gives the command one to three flags with any values, after arguments that work."""

    def answer(said: list[str]) -> tuple[int | None, str]:
        """Returns status and standard error; the state of earlier commands is reset first."""
        for left in (folder / "new", folder / "new.partial"):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        capfd.readouterr()
        status = run(command, base(command, data, folder) + said, monkeypatch)
        return status, capfd.readouterr().err

    names = sorted(importlib.import_module(f"t2t_vqem.bin.{command}").FLAGS)
    status, err = answer([])
    assert not status, err

    @hypothesis.settings(SETTINGS, max_examples=num_examples)
    @hypothesis.given(
        st.lists(
            st.tuples(st.sampled_from([*names, "unknown"]), st.sampled_from(VALUES)),
            min_size=1,
            max_size=3,
        ).filter(lambda flags: ENDLESS not in flags)
    )
    def survives(flags):
        said = [f"--{name}={value.replace('{}', str(folder))}" for name, value in flags]
        status, err = answer(said)
        assert status in (None, 0, _main.USAGE_STATUS), said
        assert "Traceback" not in err, said
        if status == _main.USAGE_STATUS:
            assert f"{command.replace('_', '-')}: error: " in err, said

    survives()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "num_examples"),
    [
        ("t2t_datagen", 40),
        ("t2t_trainer", 30),
        ("t2t_decoder", 40),
        ("t2t_bleu", 50),
        ("t2t_avg_all", 30),
        ("t2t_make_tf_configs", 50),
    ],
)
def test_any_flag(
    command, num_examples, tiny_text_data, folder, capfd, monkeypatch, tmp_path, caplog
):
    monkeypatch.chdir(tmp_path)  # because a relative path may be written to
    caplog.set_level(logging.ERROR)
    check(command, num_examples, tiny_text_data, folder, capfd, monkeypatch)
