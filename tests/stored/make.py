"""Makes the archive in this folder: data sets, and a short run of each model on them.

It was run once, with the code of data format 2 and version 0.1.0. Later code must open the data,
continue the runs and decode with them: `tests/test_stored.py`.

    python tests/stored/make.py tests/stored/format_2.tar.xz
"""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence

import numpy as np

STEPS = 4
MORE_STEPS = 6
WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}
TEXT = "vocab_size=300,max_length=32"
LAYERS = (
    "num_encoder_layers=1,num_decoder_layers=1,hidden_size=16,filter_size=32,num_heads=2,"
    "num_buckets=1,batch_size=256,max_length=32,ema_decay=0.9,warmup_steps=10"
)
RUNS = {
    "transformer": ("translate_text", "transformer_tiny", LAYERS),
    "transformer_nat": (
        "translate_text",
        "transformer_nat_tiny",
        f"{LAYERS},num_target_encoder_layers=1,num_predictor_layers=1,num_codes=12,code_size=8,"
        "revive_below=0,codebook_start=data",
    ),
    "vqvae": (
        "image_digits",
        "vqvae_digits",
        "hidden_size=8,num_residual_blocks=1,residual_size=4,num_mixtures=2,num_codes=12,"
        "num_codebooks=2,code_size=6,prior_layers=1,prior_size=8,prior_filter_size=8,"
        "prior_heads=2,batch_size=31,ema_decay=0.9",
    ),
}
# Values that change from run to run, or name the machine.
_VOLATILE = ("trainer.lock", "train", "eval")


def command(module: str, *flags: str) -> str:
    """Runs a command as a user would, without a GPU; returns its standard output."""
    process = subprocess.run(
        [sys.executable, "-m", f"t2t_vqem.bin.{module}", *flags], stdout=subprocess.PIPE, text=True
    )
    if process.returncode:
        raise RuntimeError(f"{module} {' '.join(flags)}: status {process.returncode}")
    return process.stdout


def train(run: pathlib.Path, data: pathlib.Path, steps: int, *flags: str) -> dict[str, float]:
    """Trains up to a step, on one device and without XLA; returns the metrics on dev."""
    command(
        "t2t_trainer",
        f"--output_dir={run}",
        f"--data_dir={data}",
        f"--train_steps={steps}",
        f"--local_eval_frequency={steps}",
        f"--save_checkpoints_steps={steps}",
        "--devices=cpu:0",
        "--noxla",
        *flags,
    )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return next(line for line in lines if line["kind"] == "eval" and line["step"] == steps)


def decode(model: str, run: pathlib.Path, data: pathlib.Path) -> list[str] | np.ndarray:
    """Decodes the test split with the best checkpoint: lines, or images uint8 [n, 8, 8, 1]."""
    flags = [f"--output_dir={run}", f"--data_dir={data}", "--decode_split=test"]
    if model == "vqvae":
        path = run / "test.npy"
        command("t2t_decoder", *flags, f"--decode_to_file={path}")
        return np.load(path)
    path = run / "test.txt"
    latents = ["--return_latents"] if model == "transformer_nat" else []
    command("t2t_decoder", *flags, *latents, f"--decode_to_file={path}")
    return path.read_text(encoding="utf-8").splitlines()


def _write_text(folder: pathlib.Path) -> None:
    """Writes 200, 12 and 12 pairs: number words, translated word by word, in reverse order."""
    folder.mkdir()
    rng = random.Random(0)
    for split, count in (("train", 200), ("dev", 12), ("test", 12)):
        sides: dict[str, list[str]] = {"en": [], "de": []}
        for _ in range(count):
            words = rng.choices(list(WORDS), k=rng.randint(1, 8))
            sides["en"].append(" ".join(words))
            sides["de"].append(" ".join(WORDS[word] for word in reversed(words)))
        for language, lines in sides.items():
            (folder / f"{split}.{language}").write_text("".join(f"{line}\n" for line in lines))


def _clean(run: pathlib.Path) -> None:
    """Removes values that change from run to run, and the path of the data."""
    for name in _VOLATILE:
        subprocess.run(["rm", "-rf", str(run / name)], check=True)
    flags = run / "flags.json"
    saved = json.loads(flags.read_text())
    flags.write_text(json.dumps({**saved, "data_dir": "data"}, indent=2) + "\n")


def main(arguments: Sequence[str]) -> None:
    """Makes data, runs and the results that later code must reproduce, and packs them."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        text, data = folder / "text", folder / "data"
        _write_text(text)
        settings = f"--problem_params={TEXT}"
        command(
            "t2t_datagen", "--problem=translate_text", f"--source_dir={text}", f"--data_dir={data}",
            settings,
        )  # fmt: skip
        command("t2t_datagen", "--problem=image_digits", f"--data_dir={data}")
        expected = {}
        for model, (problem, hparams_set, hparams) in RUNS.items():
            run = folder / "runs" / model
            flags = [f"--problem={problem}", f"--hparams_set={hparams_set}", f"--hparams={hparams}"]
            flags += [settings] if problem == "translate_text" else []
            train(run, data, STEPS, *flags)
            decoded = decode(model, run, data)
            subprocess.run(["cp", "-r", str(run), f"{run}.saved"], check=True)
            expected[model] = {
                "figures": train(run, data, MORE_STEPS),
                "decoded": decoded if isinstance(decoded, list) else decoded[:20].tolist(),
            }
            subprocess.run(["rm", "-r", str(run)], check=True)
            pathlib.Path(f"{run}.saved").rename(run)
            _clean(run)
        (folder / "expected.json").write_text(json.dumps(expected))
        with tarfile.open(arguments[0], "w:xz") as archive:
            for part in ("data", "runs", "expected.json"):
                archive.add(folder / part, arcname=part)


if __name__ == "__main__":
    main(sys.argv[1:])
