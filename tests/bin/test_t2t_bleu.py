import gzip
import subprocess
import sys

import pytest

from t2t_vqem.metrics import bleu


def run(*arguments):
    command = [sys.executable, "-m", "t2t_vqem.bin.t2t_bleu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path):
    translation, reference = tmp_path / "out.de", tmp_path / "ref.de.gz"
    # A line separator that only Python sees must not change the number of lines.
    translation.write_bytes("Ein Hund läuft\u2028über die Straße.\r\nJa .\n".encode())
    reference.write_bytes(gzip.compress("Der Hund läuft über die Straße.\nJa.".encode()))
    return translation, reference


def test_prints_scores_with_signatures(files):
    translation, reference = files
    result = run(f"--translation={translation}", f"--reference={reference}", "--compound_split")
    assert result.returncode == 0, result.stderr
    hypotheses = ["Ein Hund läuft\u2028über die Straße.", "Ja ."]
    references = ["Der Hund läuft über die Straße.", "Ja."]
    assert result.stdout.splitlines() == [
        str(bleu.sacrebleu_score(hypotheses, references)),
        str(bleu.chrf_score(hypotheses, references)),
        str(bleu.compound_split_bleu(hypotheses, references)),
    ]


def test_chinese_is_compared_by_characters_without_being_told(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("今天天气很好，我们去公园散步。\n", encoding="utf-8")
    files = [f"--translation={path}", f"--reference={path}"]
    found = {}
    for flag in ("--bleu_tokenizer=auto", "--bleu_tokenizer=char", "--language=de"):
        found[flag] = run(*files, flag).stdout.splitlines()[0]
    assert found["--bleu_tokenizer=auto"].startswith("BLEU = 100.00 ")
    assert "tok:zh" in found["--bleu_tokenizer=auto"]
    assert found["--bleu_tokenizer=char"].startswith("BLEU = 100.00 ")
    assert "tok:char" in found["--bleu_tokenizer=char"]
    assert found["--language=de"].startswith("BLEU = 0.00 ")


def test_several_references_and_metrics(files, tmp_path):
    translation, reference = files
    other = tmp_path / "other.de"
    other.write_text("Ein Hund läuft über die Straße.\nJa .\n", encoding="utf-8")
    texts = [f"--reference={reference}", f"--reference={other}"]
    result = run(f"--translation={translation}", *texts, "--metrics=bleu,chrf,ter")
    hypotheses = ["Ein Hund läuft\u2028über die Straße.", "Ja ."]
    references = [
        ["Der Hund läuft über die Straße.", "Ja."],
        ["Ein Hund läuft über die Straße.", "Ja ."],
    ]
    assert result.stdout.splitlines() == [
        str(score(hypotheses, *references))
        for score in (bleu.sacrebleu_score, bleu.chrf_score, bleu.ter_score)
    ]


def test_systems_are_compared_with_the_first(tmp_path):
    reference = [f"the {word} of the day is here and there" for word in "abcdefghijklmnop"]
    better = [line.replace("here", "hera") for line in reference]
    systems = {"first": [line[: len(line) // 2] for line in reference], "better": better}
    for name, lines in {**systems, "reference": reference}.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    files = [f"--translation={tmp_path / name}" for name in systems]
    result = run(*files, f"--reference={tmp_path / 'reference'}", "--paired", "--paired_samples=99")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == f"BLEU, each system against {tmp_path / 'first'}:"
    assert lines[1].split()[0] == f"{bleu.sacrebleu_score(systems['first'], reference).value:.2f}"
    assert lines[2].split()[0] == f"{bleu.sacrebleu_score(better, reference).value:.2f}"
    assert "p =" not in lines[1]
    # None of 99 samples is as far from chance as this, which counts itself: 1 / (99 + 1).
    for test in ("paired bootstrap", "approximate randomization"):
        assert f"p = 0.0100 ({test})" in lines[2]
    assert "bs:99" in lines[3] and "ar:99" in lines[4] and "seed:12345" in lines[3]
    assert lines[5].startswith("chrF2, each system")
    both = run(*files, f"--reference={tmp_path / 'reference'}").stdout.splitlines()
    assert [both[0], both[3]] == [str(tmp_path / name) for name in systems]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--paired"], "give --translation two times or more"),
        (["--translation=x"], "--translation=x is given twice"),
        (["--metrics=blue"], "expected some of bleu, chrf, ter"),
        (["--paired_samples=5"], "--paired_samples is only for --paired"),
        (["--reference=b", "--compound_split"], "is only for a single reference"),
    ],
)
def test_misuse_is_one_message(arguments, message):
    result = run("--translation=x", "--reference=a", *arguments)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr


def test_unequal_line_counts_name_both_files(files, tmp_path):
    translation, _ = files
    other = tmp_path / "other.de"
    other.write_text("Ja.\n", encoding="utf-8")
    result = run(f"--translation={translation}", f"--reference={other}")
    assert result.returncode == 2
    assert f"{translation} has 2 lines but {other} has 1" in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_flag_and_missing_file(tmp_path):
    assert "--translation is missing" in run("--reference=x").stderr
    absent = tmp_path / "absent.de"
    result = run(f"--translation={absent}", f"--reference={absent}")
    assert result.returncode == 2
    assert f"{absent}: cannot be read" in result.stderr


def test_does_not_import_tensorflow():
    code = "import sys, t2t_vqem.bin.t2t_bleu; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
