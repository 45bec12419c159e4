import json

import pytest

from t2t_vqem.inference.output_formats import ScoreFormat, TranslationFormat, format_of
from t2t_vqem.runtime.results import Hypothesis, PairScore, Token

BEST = Hypothesis("zwei\teins ||| drei", -0.5, codes=(3, 1), others=(Hypothesis("zwei", -1.25),))
BLANK = Hypothesis("", 0.0)
SCORED = PairScore(-1.5, (Token(7, "▁ja", -0.25), Token(1, "</s>", -1.25)), (4,), (-0.5, -0.125))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("-", "text"),
        ("out.de", "text"),
        ("out.tsv", "tsv"),
        ("out.tsv.gz", "tsv"),
        ("a.tsv/out.jsonl.xz", "jsonl"),
        ("out.jsonl.txt", "text"),
        ("tsv", "text"),
    ],
)
def test_the_ending_tells_the_format(path, name):
    assert format_of(path) == name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": "text"}, "zwei\teins ||| drei"),
        ({"name": "text", "with_latents": True}, "3 1\tzwei\teins ||| drei"),
        (
            {"name": "text", "num_best": 2},
            "4 ||| zwei\teins ||| drei ||| -0.500000\n4 ||| zwei ||| -1.250000",
        ),
        (
            {"name": "text", "num_best": 2, "with_latents": True},
            "4 ||| 3 1 ||| zwei\teins ||| drei ||| -0.500000\n4 |||  ||| zwei ||| -1.250000",
        ),
        ({"name": "tsv"}, "5\t1\t-0.500000\tzwei eins ||| drei"),
        (
            {"name": "tsv", "num_best": 5, "with_latents": True},
            "5\t1\t-0.500000\tzwei eins ||| drei\t3 1\n5\t2\t-1.250000\tzwei\t",
        ),
    ],
)
def test_what_is_written_for_a_line(arguments, expected):
    assert TranslationFormat(**arguments).record(4, BEST) == expected


ALIGNED = BEST._replace(alignment=((0, 0), (2, 1)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": "text"}, "zwei\teins ||| drei ||| 0-0 2-1"),
        (
            {"name": "text", "num_best": 2},
            "4 ||| zwei\teins ||| drei ||| -0.500000 ||| 0-0 2-1\n4 ||| zwei ||| -1.250000 ||| ",
        ),
        ({"name": "tsv"}, "5\t1\t-0.500000\tzwei eins ||| drei\t0-0 2-1"),
        (
            {"name": "jsonl"},
            '{"line": 5, "translations": [{"text": "zwei\\teins ||| drei", "score": -0.5, '
            '"alignment": [[0, 0], [2, 1]]}]}',
        ),
    ],
)
def test_an_alignment_is_the_last_field(arguments, expected):
    form = TranslationFormat(**arguments, with_alignment=True)
    assert form.record(4, ALIGNED) == expected
    text = ALIGNED.text.replace("\t", " ") if form.name == "tsv" else ALIGNED.text
    assert form.best(expected.split("\n")) == [text]


def test_json_lines_hold_everything():
    record = TranslationFormat("jsonl", num_best=2, with_latents=True).record(4, BEST)
    assert json.loads(record) == {
        "line": 5,
        "translations": [
            {"text": "zwei\teins ||| drei", "score": -0.5, "codes": [3, 1]},
            {"text": "zwei", "score": -1.25, "codes": []},
        ],
    }
    assert "\n" not in record


@pytest.mark.parametrize("name", ["text", "tsv", "jsonl"])
@pytest.mark.parametrize("num_best", [1, 2, 3])
@pytest.mark.parametrize("with_latents", [False, True])
def test_the_best_of_each_line_is_read_again(name, num_best, with_latents):
    form = TranslationFormat(name, num_best, with_latents)
    found = [BEST, BLANK, BEST._replace(text="last")]
    lines = "\n".join(form.record(i, h) for i, h in enumerate(found)).split("\n")
    best = BEST.text.replace("\t", " ") if name == "tsv" else BEST.text
    assert form.best(lines) == [best, "", "last"]


@pytest.mark.parametrize(
    ("name", "plain", "with_tokens"),
    [
        ("text", "-1.500000", "-1.500000\t-0.250000 -1.250000"),
        ("tsv", "5\t-1.500000\t2", "5\t-1.500000\t2\t-0.250000 -1.250000"),
        (
            "jsonl",
            '{"line": 5, "score": -1.5, "num_tokens": 2}',
            '{"line": 5, "score": -1.5, "num_tokens": 2, "tokens": [["▁ja", -0.25], '
            '["</s>", -1.25]], "codes": [4], "code_log_probs": [-0.5, -0.125]}',
        ),
    ],
)
def test_what_is_written_for_a_score(name, plain, with_tokens):
    assert ScoreFormat(name).record(4, SCORED) == plain
    assert ScoreFormat(name, with_tokens=True).record(4, SCORED) == with_tokens
