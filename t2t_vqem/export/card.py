"""The README.md of an export: its origin, its quality and how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t2t_vqem.runtime.manifest import TEXT, Manifest

_RUN = {
    ("litert", "text"): """\
```python
from t2t_vqem import runtime

model = runtime.load("{folder}")
for hypothesis in model.translate(["{example}"]):
    print(hypothesis.text)
```

It needs NumPy, SentencePiece and ai-edge-litert; no TensorFlow.
""",
    ("saved_model", "text"): """\
```python
import tensorflow as tf
import tensorflow_text  # the tokeniser is in the graph

model = tf.saved_model.load("{folder}/saved_model")
found = model.signatures["serving_default"](text=tf.constant(["{example}"]))
print(found["text"][0, 0].numpy().decode())
```

It needs tensorflow-text, 2.21.1 or later with TensorFlow 2.21. TensorFlow Serving serves
`saved_model` as it is; the signature `translate` takes ids.
""",
    ("saved_model", "images"): """\
```python
import tensorflow as tf

model = tf.saved_model.load("{folder}/saved_model")
print(list(model.signatures))
```
""",
    ("ctranslate2", "text"): """\
```python
import ctranslate2
import sentencepiece

vocabulary = sentencepiece.SentencePieceProcessor("{folder}/vocab.model")
model = ctranslate2.Translator("{folder}/ctranslate2")
pieces = [*vocabulary.EncodeAsPieces("{example}"), "</s>"]
print(vocabulary.DecodePieces(model.translate_batch([pieces])[0].hypotheses[0]))
```
""",
    ("litert", "images"): """\
```python
from t2t_vqem import runtime

model = runtime.load("{folder}")
images = model.decode(model.sample(16, seed=1))
```

It needs NumPy and ai-edge-litert; no TensorFlow.
""",
}

_RUN |= {
    ("web", kind): """\
Any static web server can host this folder, for example

```bash
python3 -m http.server --directory {folder} 8000
```

The model runs in the browser, and after the first visit without a network. `vendor/LICENSES.txt`
names the licences of the third-party files.
"""
    for kind in ("text", "images")
}


def write_card(manifest: Manifest, folder: str, sizes: Mapping[str, int], usage: str = "") -> str:
    """Returns the text of the card.

    Args:
        manifest: the manifest of the export.
        folder: name of its folder.
        sizes: sizes of its files in bytes.
        usage: how to run it; default: with `t2t_vqem.runtime`.
    """
    about = manifest.about
    usage = usage or _RUN[manifest.engine, manifest.kind].format(
        folder=folder, example="A sentence."
    )
    sections = [
        f"# {_title(manifest)}\n\n{_summary(manifest)}",
        f"## How to run it\n\n{usage.rstrip()}",
        f"## Quality\n\n{_figures(about)}",
        f"## Training\n\n{_training(about)}",
        f"## Details\n\n{_table(_facts(manifest, sizes))}",
        f"## Limits\n\n{_limits(manifest)}",
    ]
    return "\n\n".join(sections) + "\n"


def _title(manifest: Manifest) -> str:
    if manifest.kind == TEXT:
        return f"{manifest.model}: {' to '.join(manifest.languages)}"
    height, width, channels = manifest.image_shape
    return f"{manifest.model}: images of {height}x{width}x{channels}"


def _summary(manifest: Manifest) -> str:
    weights = manifest.about["weights"]
    step = "" if weights["step"] is None else f" after {weights['step']:,} updates"
    precision = "in 8 bits" if manifest.quantize == "int8" else "in float32"
    return (
        f"A model of t2t-vqem, trained on `{manifest.about['problem']}`{step}, exported for "
        f"{manifest.engine} with weights {precision}."
    )


def _figures(about: Mapping[str, Any]) -> str:
    found, test = about.get("verification"), about.get("test")
    if not found:
        return "Not verified: the export was not compared with the run on the dev split."
    if "psnr" in found:
        rows = {
            "images of dev": f"{found['images']:,}",
            "PSNR of reconstructions": f"{found['psnr']:.2f} dB",
            "PSNR of the run in TensorFlow": f"{found['psnr_of_run']:.2f} dB",
            "codes equal to those of the run": f"{100 * found['equal_codes']:.2f} %",
        }
        if test:
            rows["images of test"] = f"{test['images']:,}"
            rows["PSNR of reconstructions on test"] = f"{test['psnr']:.2f} dB"
        return _table(rows)
    rows = {
        "lines of dev": f"{found['lines']:,}",
        "BLEU on dev": f"{found['bleu']['value']:.2f}",
        "BLEU of the run in TensorFlow on dev": f"{found['bleu_of_run']:.2f}",
        "texts equal to those of the run": f"{found['equal_texts']:,}",
        "translations cut by the length limit": f"{found['cut']:,}",
    }
    signatures = f"BLEU is sacreBLEU's: `{found['bleu']['signature']}`."
    if test:
        rows |= {
            "lines of test": f"{test['lines']:,}",
            "BLEU on test": f"{test['bleu']['value']:.2f}",
            "chrF on test": f"{test['chrf']['value']:.2f}",
        }
        signatures += f" chrF: `{test['chrf']['signature']}`."
    if found.get("milliseconds_a_sentence") is not None:
        milliseconds = f"{found['milliseconds_a_sentence']:.2f}"
        rows["milliseconds for a single sentence, where it was exported"] = milliseconds
    return f"{_table(rows)}\n\n{signatures}"


def _training(about: Mapping[str, Any]) -> str:
    """Describes data, steps and settings."""
    weights, examples = about["weights"], about["examples"]
    rows = {"problem": about["problem"]}
    rows |= {f"examples of {name}": f"{n:,}" for name, n in (examples or {}).items() if n}
    rows |= {
        f"sha256 of {name}": str(value)
        for name, value in sorted((about["data_source"] or {}).items())
    }
    rows |= {
        "updates": "unknown" if weights["step"] is None else f"{weights['step']:,}",
        "checkpoint": f"{weights['checkpoint']} ({weights['sha256'][:12]})",
        "seed": str(about["seed"]),
        "hparams set": about["hparams_set"] or "none",
    }
    if about["rescorer"]:
        checkpoint, sha256 = about["rescorer"]["checkpoint"], about["rescorer"]["sha256"]
        rows["rescorer"] = f"{checkpoint} ({sha256[:12]})"
    settings = {**about["problem_config"], **about["hparams"]}
    lines = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    return (
        f"{_table(rows)}\n\nSettings of the data, and hyperparameters that differ from the model's "
        f"defaults:\n\n```\n{lines}\n```"
    )


def _facts(manifest: Manifest, sizes: Mapping[str, int]) -> dict[str, str]:
    facts = {f"decoding: {name}": str(value) for name, value in manifest.decoding.items()}
    facts |= {f"size of {name}": _size(size) for name, size in sorted(sizes.items())}
    versions = manifest.about["versions"]
    return facts | {f"version of {name}": text for name, text in versions.items()}


def _size(num_bytes: int) -> str:
    if num_bytes < 2**20:
        return f"{num_bytes / 2**10:.1f} KiB"
    return f"{num_bytes / 2**20:.1f} MiB"


def _limits(manifest: Manifest) -> str:
    if manifest.kind != TEXT:
        return "- Images must have the size of the training images."
    return (
        f"- Sources are truncated to {manifest.max_length} tokens.\n"
        "- Each line is translated without the context of other lines.\n"
        "- Quality depends on the training text, and is lower for text of another kind."
    )


def _table(rows: Mapping[str, str]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])
