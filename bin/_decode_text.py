"""t2t-decoder for a model of text: translation and scoring."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

from absl import flags

from t2t_vqem import __version__, capabilities
from t2t_vqem.bin import _quiet
from t2t_vqem.capabilities import LatentTextModel, TokenModel
from t2t_vqem.constants import MAX_EXTRA_LENGTH, NotExportableError, UsageError
from t2t_vqem.data.lines import read_stream
from t2t_vqem.data.progress import Progress
from t2t_vqem.export import cached
from t2t_vqem.files import is_special
from t2t_vqem.inference.output_formats import ScoreFormat, TranslationFormat, format_of
from t2t_vqem.inference.resume import translate_to_file
from t2t_vqem.inference.text_files import LineList, Lines, open_lines, read_lines
from t2t_vqem.metrics import bleu
from t2t_vqem.runtime.text import DEFAULT_BATCH_TOKENS, WINDOW_LINES

# Flags for models that translate token by token, which only TensorFlow computes.
_TOKEN_MODELS = ("prefix_file", "ensemble_dirs", "return_alignment")
# Flags that have no effect on scoring given translations.
_TRANSLATING = (
    *("beam_size", "alpha", "extra_length", "num_best", "num_candidates", "rescore_dir"),
    *("sampling_temp", "sampling_keep_top_k", "seed", "keep_repeats", "return_latents"),
    "bleu_tokenizer",
    *_TOKEN_MODELS,
)

_logger = logging.getLogger(__name__)


class _Record(NamedTuple):
    """The output for a line of the input: one or several lines."""

    text: str


class _Pairs:
    """`Lines` of pairs: source and translation."""

    def __init__(self, source: Lines, targets: Sequence[str]):
        self._source, self._targets = source, targets
        self.num_lines = source.num_lines
        self.sha256 = f"{source.sha256} {LineList(targets).sha256}"

    def lines(self, start: int = 0) -> Iterator[tuple[str, str]]:
        return zip(self._source.lines(start), self._targets[start:], strict=True)


def run(values: flags.FlagValues) -> None:
    """Translates or scores the text that the flags of t2t-decoder name."""
    _check(values)
    name = values.output_format or format_of(values.decode_to_file)
    if values.score:
        _score(values, ScoreFormat(name, with_tokens=values.score_tokens))
        return
    form = TranslationFormat(
        name,
        num_best=values.num_best,
        with_latents=values.return_latents,
        with_alignment=values.return_alignment,
    )
    if values.decode_interactive:
        _interact(make_translator(values)[0], form)
        return
    source, references = _source_and_references(values)
    if values.prefix_file:
        source = _Pairs(source, _prefixes(values, source))
    translator, identity = make_translator(values)
    with Progress("translating", source.num_lines, "lines") as progress:

        def translate(lines: Iterable[Any], first_index: int) -> Iterator[Any]:
            options = {"first_index": first_index, "progress": progress.advance}
            if values.prefix_file:
                pairs, again = itertools.tee(lines)
                lines = (line for line, _ in pairs)
                options["prefixes"] = (prefix for _, prefix in again)
            return translator.translate(lines, **options)

        identity["output_format"] = name
        written = _write(translate, form, source, values.decode_to_file, identity, progress)
    if references is not None:
        hypotheses = form.best(written)
        # Translations on standard output must not be mixed with scores.
        report = sys.stderr if values.decode_to_file == "-" else sys.stdout
        tokenizer = _bleu_tokenizer(values)
        print(bleu.sacrebleu_score(hypotheses, references, tokenizer=tokenizer), file=report)
        print(bleu.chrf_score(hypotheses, references), file=report)


def _prefixes(values: flags.FlagValues, source: Lines) -> list[str]:
    """Returns the prefix of the translation of each line."""
    prefixes = read_lines(values.prefix_file)
    if len(prefixes) != source.num_lines:
        raise UsageError(
            f"--prefix_file={values.prefix_file} has {len(prefixes)} lines, and there are "
            f"{source.num_lines} to translate: expected one prefix for each line, which may be "
            "empty"
        )
    return prefixes


def _score(values: flags.FlagValues, form: ScoreFormat) -> None:
    """Scores given translations."""
    source, targets = _source_and_references(values)
    scorer, identity = _by_engine(values, _litert_scorer, _tensorflow_scorer)
    identity["score"] = dataclasses.asdict(form)
    pairs = _Pairs(source, targets)
    with Progress("scoring", pairs.num_lines, "lines") as progress:

        def score(lines: Iterable[tuple[str, str]], first_index: int) -> Iterator[Any]:
            del first_index  # nothing is drawn
            return scorer.score(lines, progress=progress.advance)

        _write(score, form, pairs, values.decode_to_file, identity, progress)


def _litert_scorer(values: flags.FlagValues) -> tuple[Any, dict[str, Any]]:
    # The export for greedy search, which is there already if the run has translated.
    return _load_cached(values, cached.graph_of())


def _tensorflow_scorer(values: flags.FlagValues) -> tuple[Any, dict[str, Any]]:
    import tensorflow as tf  # takes seconds, so only after flags and files are checked

    from t2t_vqem.inference.scoring import load_scorer
    from t2t_vqem.output_dir import OutputDir, checkpoint_hash

    output_dir = OutputDir(values.output_dir)
    checkpoint = output_dir.find_checkpoint(values.checkpoint)
    batch_tokens = values.batch_size or DEFAULT_BATCH_TOKENS
    identity = {
        "engine": cached.TENSORFLOW,
        "checkpoint": checkpoint_hash(checkpoint),
        "max_length": output_dir.hparams().max_length,
        "batch_tokens": batch_tokens,
        "t2t_vqem": __version__,
        "tensorflow": tf.__version__,
        "window": WINDOW_LINES,
    }
    return load_scorer(output_dir, checkpoint, batch_tokens=batch_tokens), identity


def _check(values: flags.FlagValues) -> None:
    modes = ("decode_from_file", "decode_split", "decode_interactive")
    chosen = [f"--{mode}" for mode in modes if values[mode].value]
    if len(chosen) != 1:
        raise UsageError(
            f"expected exactly one of --{', --'.join(modes)}, got {' and '.join(chosen) or 'none'}"
        )
    if values.score_file and not values.decode_from_file:
        raise UsageError(
            f"--score_file is only for --decode_from_file, not for {chosen[0]}: omit it"
        )
    if values.prefix_file and values.decode_interactive:
        raise UsageError(
            "--prefix_file has the prefixes of all lines, so it cannot be used with "
            "--decode_interactive: give --decode_from_file"
        )
    if values.score:
        _check_scoring(values)
    elif values.score_tokens:
        raise UsageError("--score_tokens is only for --score: give both, or neither")


def _check_scoring(values: flags.FlagValues) -> None:
    if not values.score_file and not values.decode_split:
        raise UsageError(
            "--score needs translations: give --score_file with the translations of the lines in "
            "--decode_from_file, or --decode_split to score its references"
        )
    for name in _TRANSLATING:
        if values[name].present:
            raise UsageError(
                f"--{name} is only for translating, and --score scores given translations: omit "
                "one of them"
            )


def _source_and_references(values: flags.FlagValues) -> tuple[Lines, list[str] | None]:
    """Reads and checks the texts, before any slow work starts."""
    if values.decode_split:
        from t2t_vqem.output_dir import OutputDir

        output_dir = OutputDir(values.output_dir)
        dataset = output_dir.problem().open(values.data_dir or output_dir.settings().data_dir)
        source = LineList(dataset.sources(values.decode_split))
        return source, dataset.references(values.decode_split)
    source = open_lines(values.decode_from_file)
    if not values.score_file:
        return source, None
    references = read_lines(values.score_file)
    if len(references) != source.num_lines:
        raise UsageError(
            f"--score_file={values.score_file} has {len(references)} lines but "
            f"--decode_from_file={values.decode_from_file} has {source.num_lines}: expected one "
            "translation for each line"
        )
    return source, references


def _bleu_tokenizer(values: flags.FlagValues) -> str:
    """Returns the tokenizer of BLEU: that of --bleu_tokenizer, or else that of the run."""
    from t2t_vqem.output_dir import OutputDir

    output_dir = OutputDir(values.output_dir)
    name = values.bleu_tokenizer or output_dir.hparams().bleu_tokenizer
    return bleu.choose_tokenizer(name, output_dir.problem().target_language)


def make_translator(values: flags.FlagValues) -> tuple[Any, dict[str, Any]]:
    """Returns the translator of the run, and everything that its translations depend on."""
    for name in _TOKEN_MODELS:
        if values[name].value:
            _check_token_model(values, name)
            return _tensorflow_translator(values)
    return _by_engine(values, _litert_translator, _tensorflow_translator)


def _by_engine(
    values: flags.FlagValues,
    litert: Callable[[flags.FlagValues], tuple[Any, dict[str, Any]]],
    tensorflow: Callable[[flags.FlagValues], tuple[Any, dict[str, Any]]],
) -> tuple[Any, dict[str, Any]]:
    """Returns what the function of the engine that the flags name returns."""
    without_xla = values.xla is False and values.engine == cached.AUTO
    if without_xla or cached.choose_engine(values.engine) == cached.TENSORFLOW:
        if values.int8:
            raise UsageError("--int8 is only for --engine=litert: omit it, or use that engine")
        return tensorflow(values)
    try:
        return litert(values)
    except NotExportableError as error:
        if values.engine == cached.LITERT or values.int8:
            raise
        _logger.info("using TensorFlow: %s", error)
        return tensorflow(values)


def _litert_translator(values: flags.FlagValues) -> tuple[Any, dict[str, Any]]:
    """Translates with an export of the run, which is made if there is none yet."""
    if values.extra_length > MAX_EXTRA_LENGTH:
        raise NotExportableError(
            f"--extra_length={values.extra_length}: LiteRT takes up to {MAX_EXTRA_LENGTH}. Use a "
            "lower number, or --engine=tensorflow"
        )
    graph = cached.graph_of(
        **{name: values[name].value for name in cached.GRAPH},
        sampling_temperature=values.sampling_temp or 0.0,
    )
    model, identity = _load_cached(values, graph)
    if not model.has_latents:
        _refuse_latent_flags(values, model.manifest.model)
    settings = {
        "alpha": values.alpha,
        "extra_length": values.extra_length,
        "temperature": values.sampling_temp or 0.0,
        "top_k": values.sampling_keep_top_k,
        "seed": values.seed,
    }
    identity |= {**graph, **settings, "return_latents": values.return_latents}
    return cached.ExportedTranslator(model, settings), identity


def _load_cached(values: flags.FlagValues, graph: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Returns the export of the run, and everything that its results depend on, except options."""
    quantize = "int8" if values.int8 else "none"
    with _quiet.harmless_lines_hidden():  # of the conversion at the first use
        model = cached.load_cached(
            os.path.abspath(os.path.expanduser(values.output_dir)),
            checkpoint=values.checkpoint,
            graph=graph,
            quantize=quantize,
            rescore_dir=values.rescore_dir and os.path.expanduser(values.rescore_dir),
            threads=values.intra_op_threads,
            batch_tokens=values.batch_size,
        )
    identity = {
        "engine": cached.LITERT,
        "precision": quantize,
        "model": dict(model.manifest.files),
        "batch_tokens": values.batch_size,
        "t2t_vqem": __version__,
        "ai_edge_litert": importlib.metadata.version("ai-edge-litert"),
        "window": WINDOW_LINES,
    }
    return model, identity


def _check_token_model(values: flags.FlagValues, name: str) -> None:
    from t2t_vqem.output_dir import OutputDir

    model = OutputDir(values.output_dir).hparams().model
    if not capabilities.offers(model, TokenModel):
        raise UsageError(
            f"--{name} needs a model that {TokenModel.offers}, and the run in {values.output_dir} "
            f"is of {model}. Expected one of: {capabilities.models_that_offer(TokenModel)}"
        )
    if values.engine == cached.LITERT or values.int8:
        raise UsageError(
            f"--{name} is computed by TensorFlow: omit --engine=litert and --int8, or --{name}"
        )


def _options(values: flags.FlagValues) -> Any:
    """Returns the `DecodeOptions`."""
    from t2t_vqem.decoding.options import completed
    from t2t_vqem.output_dir import OutputDir

    model = OutputDir(values.output_dir).hparams().model
    latent = capabilities.offers(model, LatentTextModel)
    if not latent:
        _refuse_latent_flags(values, model)
    return completed(
        latent,
        **{name: values[name].value for name in cached.GRAPH},
        alpha=values.alpha,
        extra_length=values.extra_length,
        sampling_temperature=values.sampling_temp or 0.0,
        sampling_top_k=values.sampling_keep_top_k,
    )


def _tensorflow_translator(values: flags.FlagValues) -> tuple[Any, dict[str, Any]]:
    # Imports TensorFlow, which takes seconds, only after flags and files are checked.
    import tensorflow as tf

    from t2t_vqem.inference import translate
    from t2t_vqem.output_dir import OutputDir, checkpoint_hash

    output_dir = OutputDir(values.output_dir)
    options = _options(values)
    checkpoint = output_dir.find_checkpoint(values.checkpoint)
    settings = {
        "batch_tokens": values.batch_size or translate.DEFAULT_BATCH_TOKENS,
        "seed": values.seed,
        "xla": values.xla,
    }
    rescorer, rescorer_hash = _rescorer(values, output_dir.vocabulary())
    others = [
        (run, run.find_checkpoint(values.checkpoint))
        for run in map(OutputDir, values.ensemble_dirs)
    ]
    translator = translate.load_translator(
        output_dir,
        checkpoint,
        options,
        ensemble=others,
        **settings,
        rescorer=rescorer,
        align=values.return_alignment,
    )
    identity = {
        "engine": cached.TENSORFLOW,
        "checkpoint": checkpoint_hash(checkpoint),
        "rescorer": rescorer_hash,
        "ensemble": [checkpoint_hash(path) for _, path in others],
        "return_alignment": values.return_alignment,
        "return_latents": values.return_latents,
        "max_length": output_dir.hparams().max_length,
        **dataclasses.asdict(options),
        **settings,
        "t2t_vqem": __version__,
        "tensorflow": tf.__version__,
        "window": translate.WINDOW_LINES,
    }
    return translator, identity


def _refuse_latent_flags(values: flags.FlagValues, model: str) -> None:
    for name in ("num_candidates", "rescore_dir", "return_latents", "keep_repeats"):
        if values[name].present:
            raise UsageError(
                f"--{name} is only for models that translate with latents, such as "
                f"transformer_nat, and the run in {values.output_dir} is of {model}: omit it"
            )


def _rescorer(values: flags.FlagValues, vocabulary: Any) -> tuple[Any, str | None]:
    """Returns the model that chooses among candidates, and the hash of its weights."""
    if not values.rescore_dir:
        return None, None
    from t2t_vqem.export.loading import check_rescorer
    from t2t_vqem.output_dir import checkpoint_hash

    output_dir = check_rescorer(values.rescore_dir, vocabulary, values.num_candidates)
    model = output_dir.build_model()
    return model, checkpoint_hash(output_dir.restore_for_inference(model))


def _write(
    compute: Callable[..., Iterator[Any]],
    form: TranslationFormat | ScoreFormat,
    source: Lines,
    path: str,
    identity: dict[str, Any],
    progress: Progress,
) -> list[str]:
    """Writes the results for all lines and returns the written lines.

    Args:
        compute: (lines, first_index) -> a result for each line, in order.
        form: the output format.
        source: the input.
        path: the output file.
        identity: everything that the output depends on, except the input.
        progress: progress of the lines.
    """

    def records(lines: Iterable[Any], first_index: int = 0) -> Iterator[_Record]:
        for index, result in enumerate(compute(lines, first_index), start=first_index):
            yield _Record(form.record(index, result))

    if path == "-" or is_special(path):  # such outputs cannot be resumed
        written = []
        with _opened(path) as output:
            for record in records(source.lines()):
                print(record.text, file=output, flush=True)
                written += record.text.split("\n")
        return written
    translate_to_file(
        records,
        source,
        path,
        identity=identity,
        window=identity["window"],
        on_resume=lambda num_lines: progress.advance(num_lines, skipped=True),
    )
    return read_lines(path)


def _opened(path: str) -> contextlib.AbstractContextManager[TextIO]:
    if path == "-":
        return contextlib.nullcontext(sys.stdout)
    return open(path, "w", encoding="utf-8", newline="\n")


def _interact(translator: Any, form: TranslationFormat) -> None:
    """Translates each line of standard input before reading the next one."""
    prompt = "> " if sys.stdin.isatty() else ""
    print(prompt, end="", file=sys.stderr, flush=True)
    for index, line in enumerate(read_stream(sys.stdin.buffer, "standard input")):
        for hypothesis in translator.translate([line], first_index=index):
            print(form.record(index, hypothesis), flush=True)
        print(prompt, end="", file=sys.stderr, flush=True)
