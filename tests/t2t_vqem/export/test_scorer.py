"""An export of a model with a scorer chooses as the model does, without any option."""

import pytest

from t2t_vqem import runtime
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams


@pytest.mark.slow
def test_the_scorer_chooses_in_litert_as_in_tensorflow(untrained_run, tmp_path):
    from t2t_vqem.decoding.options import parse_options
    from t2t_vqem.export.exporter import export_run, make_graphs
    from t2t_vqem.export.loading import load_run

    hparams = TransformerNATHParams(
        num_encoder_layers=1, num_decoder_layers=1, num_target_encoder_layers=1, hidden_size=16,
        num_predictor_layers=1, filter_size=24, num_heads=2, num_codes=9, code_size=4,
        num_scorer_layers=1, max_length=32,
    )  # fmt: skip
    run, folder = untrained_run(tmp_path / "run", hparams), str(tmp_path / "export")
    options = parse_options("num_candidates=3,num_best=3,alpha=0.3")
    manifest = export_run(run, folder, options=options, verify=False, phrases=False)
    loaded, exported = load_run(run), runtime.load(folder)
    graphs = make_graphs(loaded, options)
    reference = runtime.TextRuntime(manifest, loaded.vocabulary, graphs)
    lines = ["one", "two three four", "", "three " * 9]
    for mine, theirs in zip(exported.translate(lines), reference.translate(lines), strict=True):
        assert [mine.text, *(h.text for h in mine.others)] == [
            theirs.text,
            *(h.text for h in theirs.others),
        ]
        assert mine.score == pytest.approx(theirs.score, rel=1e-4)
    pairs = [(line, "two one three") for line in lines]
    for mine, theirs in zip(exported.score(pairs), reference.score(pairs), strict=True):
        assert mine.score == pytest.approx(theirs.score, rel=1e-4)
