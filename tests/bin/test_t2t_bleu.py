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
