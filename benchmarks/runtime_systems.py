"""The systems that runtime_speed.py compares: each translates lines of text to text.

Trained runs come from the command line. Runs of base size have random weights, which are enough to
measure speed: the rows of PAD and EOS in the embeddings are 0, so that no search ever ends before
its limit, and every system makes as many tokens as the source has, and one.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import ctranslate2
import keras
import numpy as np
import tensorflow as tf
from sentencepiece import sentencepiece_model_pb2

from t2t_vqem import registry, runtime
from t2t_vqem.constants import CTRANSLATE2, EOS_ID, LITERT
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.decoding.options import parse_options
from t2t_vqem.export.ctranslate2_model import FOLDER, names_of
from t2t_vqem.export.exporter import export_run
from t2t_vqem.inference.translate import load_translator
from t2t_vqem.output_dir import CHECKPOINTS, OutputDir, make_model, named_weights
from t2t_vqem.runtime import manifest

Translate = Callable[[list[str]], list[str]]
FLOAT32, INT8 = "float32", "int8"
_QUANTIZE = {FLOAT32: "none", INT8: "int8"}
XLA = "TensorFlow XLA"
ENGINES = ("LiteRT", XLA, "CTranslate2")
_RANDOM_VOCABULARY = 32_000
_FILE_BATCHES = (16, 32, 64, 128)  # batch sizes to try with CTranslate2 on whole files


class Role(NamedTuple):
    """A run and how it searches."""

    name: str
    run: OutputDir
    options: str  # of decoding
    make: Callable[[], None] | None = None  # makes the run, if it has random weights


class System(NamedTuple):
    """A role on an engine."""

    role: Role
    engine: str  # one of ENGINES
    precision: str  # FLOAT32 or INT8
    threads: int | None = None  # of CTranslate2

    @property
    def name(self) -> str:
        """Name for people, and key of the figures."""
        threads = f", {self.threads} threads" if self.threads else ""
        return f"{self.role.name}, {self.engine} {self.precision}{threads}"

    def folder(self, work: str) -> str:
        """Returns the folder of the export; makes it at first use."""
        engine = CTRANSLATE2 if self.engine == "CTranslate2" else LITERT
        name = f"{self.role.name} {engine} {self.precision}".replace(" ", "_").replace(",", "")
        folder = os.path.join(work, name)
        if not os.path.exists(os.path.join(folder, manifest.MANIFEST)):
            if self.role.make:
                self.role.make()
            export_run(
                self.role.run,
                folder,
                engine=engine,
                quantize=_QUANTIZE[self.precision],
                options=parse_options(self.role.options),
                verify=False,
                phrases=False,
            )
        return folder

    def load(self, work: str) -> Translate:
        """Returns what translates batches of lines, with its default threads."""
        if self.engine == "CTranslate2":
            return Peer(self, work).translate
        if self.engine == XLA:
            translator = load_translator(self.role.run, None, parse_options(self.role.options))
            return lambda lines: [found.text for found in translator.translate(lines)]
        model = runtime.load(self.folder(work))
        return lambda lines: [found.text for found in model.translate(lines)]

    def load_for_files(self, work: str, trial: list[str]) -> Translate:
        """Returns what translates whole files; CTranslate2 with its best settings for `trial`."""
        if self.engine != "CTranslate2":
            return self.load(work)
        return Peer(self, work).fastest(trial)


class Peer:
    """CTranslate2 with an export of a run, without scores, which take time."""

    def __init__(self, system: System, work: str):
        """Loads the model with the system's number of threads."""
        self._folder = system.folder(work)
        self._manifest = manifest.read(self._folder)
        self._vocabulary = system.role.run.vocabulary()
        self._names = names_of(self._vocabulary)
        self._ids = {name: id_ for id_, name in enumerate(self._names)}
        self._translator = self._load(intra_threads=system.threads or 1)
        self._settings = {"max_batch_size": 0}

    def _load(self, **threads: int) -> ctranslate2.Translator:
        return ctranslate2.Translator(os.path.join(self._folder, FOLDER), **threads)

    def translate(self, lines: list[str]) -> list[str]:
        """Translates lines, text to text."""
        names, decoding = self._names, self._manifest.decoding
        beam = decoding["beam_size"]
        sources = [
            [*(names[id_] for id_ in ids[: self._manifest.max_length - 1]), names[EOS_ID]]
            for ids in self._vocabulary.encode(lines)
        ]
        found = self._translator.translate_batch(
            sources,
            beam_size=beam,
            length_penalty=decoding["alpha"] if beam > 1 else 1,
            max_decoding_length=max(map(len, sources)) + decoding["extra_length"],
            return_scores=False,
            **self._settings,
        )
        return [
            self._vocabulary.decode([self._ids[name] for name in result.hypotheses[0]])
            for result in found
        ]

    def fastest(self, trial: list[str]) -> Translate:
        """Chooses batch size and threads by translating `trial` with each; both use all cores."""
        cores = os.cpu_count() or 1
        tried = []
        for threads in ({"intra_threads": cores}, {"inter_threads": cores, "intra_threads": 1}):
            translator = self._load(**threads)
            for batch in _FILE_BATCHES:
                self._translator, self._settings = translator, {"max_batch_size": batch}
                self.translate(trial[:batch])
                begin = time.perf_counter()
                self.translate(trial)
                tried.append((time.perf_counter() - begin, batch, translator))
        _, batch, self._translator = min(tried, key=lambda entry: entry[0])
        self._settings = {"max_batch_size": batch}
        return self.translate


def systems(roles: list[Role], engines: list[str]) -> Iterator[System]:
    """Yields the systems of roles on engines."""
    for role in roles:
        for engine in engines:
            if engine == XLA:
                yield System(role, engine, FLOAT32)
            elif engine == "LiteRT":
                yield from (System(role, engine, precision) for precision in _QUANTIZE)
            elif role.name.split(", ")[-1] in ("greedy", "beam 4"):
                for precision in _QUANTIZE:
                    yield from (System(role, engine, precision, threads) for threads in (1, 2))


def trained_roles(teacher: str, student: str | None, latent: list[str]) -> list[Role]:
    """Returns the roles of trained runs."""
    roles = [
        Role("small, greedy", OutputDir(teacher), ""),
        Role("small, beam 4", OutputDir(teacher), "beam_size=4"),
    ]
    if student:
        roles.append(Role("small, deep-shallow student", OutputDir(student), ""))
    for path in latent:
        run = OutputDir(path)
        name = f"small, latent n_c={run.hparams().num_halvings}"
        roles.append(Role(name, run, ""))
        roles.append(Role(f"{name} of nine", run, "num_candidates=9"))
    return roles


def random_roles(teacher: str, work: str) -> list[Role]:
    """Returns the roles of runs of base size, whose random weights are made at first use."""
    latent = {f"latent n_c={n}": ("transformer_nat_base", {"num_halvings": n}) for n in (3, 4)}
    kinds = {
        "greedy": ("transformer_base", {}),
        "deep-shallow student": ("transformer_deep_shallow", {}),
        **latent,
    }
    roles = []
    for name, kind in kinds.items():
        run = OutputDir(os.path.join(work, f"run base {name}"))
        make = functools.partial(_make_random_run, run, teacher, *kind)
        roles.append(Role(f"base, {name}", run, "extra_length=1", make))
    return roles


def _make_random_run(
    run: OutputDir, teacher: str, hparams_set: str, changes: dict[str, int]
) -> None:
    """Makes a run with random weights for the problem of the teacher, if it does not exist."""
    if os.path.exists(run.join(CHECKPOINTS, "checkpoint")):
        return
    keras.utils.set_random_seed(0)
    settings = OutputDir(teacher).settings()
    hparams = dataclasses.replace(registry.hparams_sets.get(hparams_set)(), **changes)
    vocabulary = _large_vocabulary(OutputDir(teacher), run.path)
    settings = dataclasses.replace(
        settings, hparams=hparams, hparams_set=hparams_set, vocabulary=vocabulary.hash
    )
    run.save(settings, vocabulary)
    model = make_model(hparams, run.problem(), vocabulary)
    model.build_variables()
    for variable in model.variables:
        if variable.path.endswith("embedding/table"):
            table = np.array(variable)
            table[: EOS_ID + 1] = 0
            variable.assign(table)
    checkpoint = tf.train.Checkpoint(model=named_weights(model))
    folder = run.join(CHECKPOINTS)
    tf.train.CheckpointManager(checkpoint, folder, 1, checkpoint_name="ckpt").save(1)


def _large_vocabulary(run: OutputDir, folder: str) -> Vocabulary:
    """Returns a run's vocabulary with pieces that no text has, as many as a base model has."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(run.vocabulary().model)
    for number in range(_RANDOM_VOCABULARY - len(proto.pieces)):
        piece = proto.pieces.add()
        piece.piece, piece.score = f"\u2581never{number}", -100.0
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "large.model")
    with open(path, "wb") as file:
        file.write(proto.SerializeToString())
    return Vocabulary(path)
