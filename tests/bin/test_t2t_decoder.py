import io
import json
import lzma
import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading
from typing import NamedTuple

import pytest

from t2t_vqem import files
from t2t_vqem.bin import _main, t2t_decoder
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams
from t2t_vqem.inference.text_files import read_lines
from t2t_vqem.metrics import bleu
from tests.conftest import wait_until

WILD = [
    "one two three",
    "",
    "   ",
    "\u2028",
    "four\u2028five\u0085six\x0b\x0cseven\x1c\x1d\x1e eight\u2029nine\rten",
    "😀 emoji 👩‍👩‍👧 and \x00 control \x07 characters",
    "one " * 2500,
    "x" * 10_000,
    "ten nine\r",
    "last",
]


ENGINES = ("litert", "tensorflow")
SIZES = {
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "hidden_size": 16,
    "filter_size": 16,
    "num_heads": 2,
    "max_length": 32,
}


class Run(NamedTuple):
    """A run with random weights: output is nonsense, but it is its own for each line."""

    path: str
    data: object


@pytest.fixture(scope="module")
def run(tiny_text_data, untrained_run, tmp_path_factory):
    hparams = TransformerHParams(**SIZES)
    output_dir = untrained_run(tmp_path_factory.mktemp("run"), hparams, best=1, checkpoints=2)
    return Run(output_dir.path, tiny_text_data)


@pytest.fixture(scope="module")
def latent_run(untrained_run, tmp_path_factory):
    """Folder of a run of the latent model."""
    hparams = TransformerNATHParams(
        **SIZES, num_predictor_layers=1, num_target_encoder_layers=1, num_codes=9, code_size=4
    )
    return untrained_run(tmp_path_factory.mktemp("latent"), hparams).path


class Result(NamedTuple):
    """What a command printed."""

    out: str
    err: str


@pytest.fixture
def decode(run, capfd, monkeypatch, caplog):
    """Runs the command in this process, on the run unless another output directory is given."""

    def call(*arguments, stdin=b"", status=None):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        caplog.clear()
        capfd.readouterr()
        argv = [f"--output_dir={run.path}", "--noxla", *arguments]
        if "--score" not in arguments:  # which refuses flags of translating
            argv.insert(1, "--extra_length=4")
        with pytest.raises(SystemExit) as caught:
            _main.run(t2t_decoder.main, t2t_decoder.FLAGS, ["t2t-decoder", *argv])
        captured = capfd.readouterr()
        assert caught.value.code == status, captured.err
        return Result(captured.out, captured.err + caplog.text)

    return call


def command(run, *arguments):
    """The command line for a process of its own."""
    module = [sys.executable, "-m", "t2t_vqem.bin.t2t_decoder", f"--output_dir={run.path}"]
    return [*module, "--noxla", "--extra_length=4", *arguments]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "wild.en"
    path.write_bytes("\n".join(WILD).encode())  # no final newline
    return path


def test_wild_lines_each_get_one_line(decode, source, tmp_path):
    out = tmp_path / "out.de.gz"
    result = decode(f"--decode_from_file={source}", f"--decode_to_file={out}")
    lines = read_lines(str(out))
    assert len(lines) == len(WILD)
    assert [i for i, line in enumerate(lines) if not line] == [1, 2, 3]
    assert not any(len(line.splitlines()) > 1 for line in lines)
    assert "4 input line(s) had more than max_length=32 tokens and were truncated" in result.err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.de.gz", "wild.en"]

    # The same lines one by one through a pipe.
    typed = "".join(f"{line}\n" for line in WILD).encode()
    answers = decode("--decode_interactive", stdin=typed).out.split("\n")
    assert answers == [*lines, ""]

    # And from standard input to standard output.
    answers = decode("--decode_from_file=-", stdin=typed).out.split("\n")
    assert answers == [*lines, ""]


def test_a_byte_order_mark_is_no_text(decode, tmp_path):
    text = "one two three\nfour\n"
    plain = decode("--decode_from_file=-", stdin=text.encode()).out
    marked = f"\ufeff{text}"
    for encoding in ("utf-8", "utf-16-le", "utf-32-be"):
        assert decode("--decode_from_file=-", stdin=marked.encode(encoding)).out == plain
    assert decode("--decode_interactive", stdin=marked.encode()).out == plain
    (tmp_path / "marked").write_bytes(lzma.compress(marked.encode("utf-16-be")))
    assert decode(f"--decode_from_file={tmp_path / 'marked'}").out == plain


def test_pipes_are_read_and_written(decode, source, tmp_path):
    plain = decode(f"--decode_from_file={source}").out
    pipes = [str(tmp_path / name) for name in ("from", "to")]
    found = []
    for pipe in pipes:
        os.mkfifo(pipe)
    threads = [
        threading.Thread(target=lambda: write_bytes(pipes[0], source.read_bytes())),
        threading.Thread(target=lambda: found.append(read_bytes(pipes[1]).decode())),
    ]
    for thread in threads:
        thread.start()
    decode(f"--decode_from_file={pipes[0]}", f"--decode_to_file={pipes[1]}")
    for thread in threads:
        thread.join(10)
    assert found == [plain]
    assert {path.name for path in tmp_path.iterdir()} == {"from", "to", "wild.en"}
    # A pipe with a file for the output, and a reference.
    reference = tmp_path / "reference"
    reference.write_text("x\n" * len(WILD), encoding="utf-8")
    writer = threading.Thread(target=lambda: write_bytes(pipes[0], source.read_bytes()))
    writer.start()
    to = tmp_path / "out"
    decode(f"--decode_from_file={pipes[0]}", f"--decode_to_file={to}", f"--score_file={reference}")
    writer.join(10)
    assert to.read_text("utf-8") == plain


def write_bytes(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def test_output_goes_through_links_and_into_devices(decode, source, tmp_path):
    target, link, out = tmp_path / "real", tmp_path / "link", tmp_path / "out"
    target.write_text("before\n")
    link.symlink_to(target)
    for path in (link, out):
        decode(f"--decode_from_file={source}", f"--decode_to_file={path}")
    assert link.is_symlink()
    assert target.read_bytes() == out.read_bytes() != b"before\n"
    decode(f"--decode_from_file={source}", "--decode_to_file=/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_an_input_is_no_output(decode, source, tmp_path):
    before, reference, link = source.read_bytes(), tmp_path / "reference", tmp_path / "link"
    reference.write_text("x\n" * len(WILD), encoding="utf-8")
    link.symlink_to(source)
    for path, flag in (
        (source, "decode_from_file"),
        (link, "decode_from_file"),
        (reference, "score"),
    ):
        result = decode(
            f"--decode_from_file={source}",
            f"--score_file={reference}",
            f"--decode_to_file={path}",
            status=2,
        )
        assert f"--decode_to_file={path} and --{flag}" in result.err
        assert "are the same file, which would be overwritten" in result.err
    assert source.read_bytes() == before


def test_a_second_decoder_is_kept_out_of_the_output(decode, source, tmp_path):
    out, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to(out)
    with files.locked(f"{out}.lock", "another", remedy="Wait."):
        result = decode(f"--decode_from_file={source}", f"--decode_to_file={link}", status=2)
        assert f"{out} is being written by another command (process {os.getpid()}" in result.err
    decode(f"--decode_from_file={source}", f"--decode_to_file={link}")
    assert {path.name for path in tmp_path.iterdir()} == {"link", "out", "wild.en"}


@pytest.mark.slow
def test_an_interrupt_is_one_line_and_the_same_command_goes_on(run, tmp_path):
    (tmp_path / "in").write_text("one two\n" * 30_000, encoding="utf-8")
    arguments = [f"--decode_from_file={tmp_path / 'in'}", f"--decode_to_file={tmp_path / 'out'}"]
    process = subprocess.Popen(command(run, *arguments), stderr=subprocess.PIPE, text=True)
    wait_until((tmp_path / "out.partial.json").exists, "a part", process=process)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in error
    assert error.endswith(
        "t2t-decoder: interrupted. With --decode_to_file, the same command continues from the "
        "finished lines\n"
    )


@pytest.mark.slow
def test_interactive_answers_before_it_reads_on(run, decode):
    lines = [b"one two\n", b"\n", b"three\n"]
    expected = decode("--decode_interactive", stdin=b"".join(lines)).out.encode().splitlines(True)
    process = subprocess.Popen(
        command(run, "--decode_interactive"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        for line, answer in zip(lines, expected, strict=True):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == answer
    finally:
        process.stdin.close()
        assert process.wait(timeout=60) == 0
        process.stdout.close()


@pytest.mark.slow
def test_killed_run_goes_on_to_the_same_file(run, decode, tmp_path):
    source, whole, killed = (str(tmp_path / name) for name in ("in", "whole", "killed"))
    with open(source, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for i in range(700) for line in (*WILD[:6], f"one {i}"))
    decode(f"--decode_from_file={source}", f"--decode_to_file={whole}")
    again = command(run, f"--decode_from_file={source}", f"--decode_to_file={killed}")
    process = subprocess.Popen(again, stderr=subprocess.DEVNULL)
    wait_until(lambda: os.path.exists(f"{killed}.partial.json"), "a part", process=process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not os.path.exists(killed)
    with open(f"{killed}.partial.json", encoding="utf-8") as file:
        done = json.load(file)["lines"]
    assert 0 < done < 4900

    result = subprocess.run(again, capture_output=True, check=True)
    assert f"killed.partial has {done} lines already: going on" in result.stderr.decode()
    with open(whole, "rb") as expected, open(killed, "rb") as got:
        assert got.read() == expected.read()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "killed", "whole"]


def test_split_is_scored_like_the_files(run, decode, tmp_path):
    out, again = str(tmp_path / "split.de"), str(tmp_path / "file.de")
    text = run.data.source_dir
    split = decode("--decode_split=test", f"--decode_to_file={out}", "--beam_size=2")
    scores = decode(
        f"--decode_from_file={text}/test.en",
        f"--decode_to_file={again}",
        f"--score_file={text}/test.de",
        "--beam_size=2",
    )
    hypotheses, references = read_lines(out), read_lines(f"{text}/test.de")
    assert hypotheses == read_lines(again)
    expected = [bleu.sacrebleu_score(hypotheses, references)]
    expected.append(bleu.chrf_score(hypotheses, references))
    for result in (split, scores):
        assert result.out.splitlines() == [str(score) for score in expected]


def test_checkpoint_is_the_best_unless_another_is_named(run, decode, source):
    def texts(*arguments):
        return decode(f"--decode_from_file={source}", *arguments).out

    best = texts()
    assert texts("--checkpoint=best") == best
    assert texts(f"--checkpoint={run.path}/best/ckpt-1") == best
    assert texts("--checkpoint=latest") != best


def test_a_checkpoint_of_another_run_is_refused(run, decode, source, untrained_run, tmp_path):
    other = untrained_run(tmp_path / "other", TransformerHParams(**SIZES)).path
    files = [f"--decode_from_file={source}", f"--decode_to_file={tmp_path / 'out'}"]
    result = decode(*files, f"--checkpoint={other}/best/ckpt-1", status=2)
    assert f"belongs to the run in {other}, not to the one in {run.path}" in result.err
    # Elsewhere its run is unknown, but it must fit the model.
    sizes = {**SIZES, "hidden_size": 32}
    larger = untrained_run(tmp_path / "larger", TransformerHParams(**sizes)).path
    os.rename(f"{larger}/best", tmp_path / "copied")
    result = decode(*files, f"--checkpoint={tmp_path}/copied/ckpt-1", status=2)
    assert "cannot be restored into the model 'transformer'" in result.err
    assert "unrestored" not in result.err and "could not be found" not in result.err
    assert result.err.count("ckpt-1") == 1


@pytest.mark.slow
def test_threads_are_chosen_before_tensorflow_makes_them(run):
    """In a process of its own: TensorFlow reads the number once."""
    count = (
        "import os, sys\n"
        "from t2t_vqem.bin import _main, t2t_decoder\n"
        "def main(argv):\n"
        "    t2t_decoder.main(argv)\n"
        "    print(len(os.listdir('/proc/self/task')), file=sys.stderr)\n"
        "_main.run(main, t2t_decoder.FLAGS, ['t2t-decoder', *sys.argv[1:]])\n"
    )
    argv = [sys.executable, "-c", count, *command(run, "--decode_interactive")[3:]]
    found = {}
    for threads in ("1", "3"):
        done = subprocess.run(
            [*argv, f"--intra_op_threads={threads}"],
            input=b"one\n",
            capture_output=True,
            check=True,
        )
        found[threads] = int(done.stderr.decode().splitlines()[-1])
    assert found["1"] < found["3"]


def test_latent_model_keeps_the_promises_on_lines(decode, source, latent_run, tmp_path):
    out = tmp_path / "out.de"
    run = f"--output_dir={latent_run}"
    decode(run, f"--decode_from_file={source}", f"--decode_to_file={out}")
    lines = read_lines(str(out))
    assert len(lines) == len(WILD)
    assert [i for i, line in enumerate(lines) if not line] == [1, 2, 3]
    typed = "".join(f"{line}\n" for line in WILD).encode()
    assert decode(run, "--decode_interactive", stdin=typed).out.split("\n") == [*lines, ""]


def test_latents_come_before_the_translation(run, decode, latent_run, tmp_path):
    out = tmp_path / "out.de"
    folder, text = f"--output_dir={latent_run}", run.data.source_dir
    files = [f"--decode_from_file={text}/test.en", f"--score_file={text}/test.de"]
    plain = decode(folder, *files, f"--decode_to_file={out}")
    lines = read_lines(str(out))
    shown = decode(folder, *files, f"--decode_to_file={out}", "--return_latents")
    assert shown.out == plain.out  # the score is that of the translation alone
    codes, texts = zip(*(line.split("\t", 1) for line in read_lines(str(out))), strict=True)
    assert list(texts) == lines
    found = [[int(code) for code in row.split(" ")] for row in codes]
    assert all(0 <= code < 9 for row in found for code in row)
    assert len({tuple(row) for row in found}) > 1
    answer = decode(folder, "--decode_interactive", "--return_latents", stdin=b"one two\n\n").out
    assert answer.count("\t") == 2
    assert answer.endswith("\n\t\n")  # an empty line has no latents


def test_candidates_are_rescored_and_may_keep_repeats(run, decode, latent_run, tmp_path):
    text = run.data.source_dir

    def translate(*arguments):
        out = tmp_path / "out.de"
        files = [f"--decode_from_file={text}/test.en", f"--decode_to_file={out}"]
        decode(f"--output_dir={latent_run}", *files, *arguments)
        return read_lines(str(out))

    several = ["--num_candidates=4", "--sampling_temp=2"]
    greedy, alone = translate(), translate(*several)
    beam = translate("--num_candidates=4")
    assert beam == translate("--num_candidates=4", "--beam_size=4") != greedy
    rescored = translate(*several, f"--rescore_dir={run.path}")
    assert rescored == translate(*several, f"--rescore_dir={run.path}")
    assert len({tuple(lines) for lines in (greedy, alone, rescored)}) == 3
    assert translate("--keep_repeats") != greedy


@pytest.mark.parametrize("latent", [False, True])
def test_several_translations_of_each_line(run, latent_run, decode, tmp_path, latent):
    source, reference = tmp_path / "in", tmp_path / "reference"
    source.write_text("one two three\n\nfour\n", encoding="utf-8")
    reference.write_text("a\nb\nc\n", encoding="utf-8")
    folder = f"--output_dir={latent_run if latent else run.path}"
    arguments = [folder, f"--decode_from_file={source}", f"--score_file={reference}"]
    arguments += ["--num_best=3"]

    def write(name):
        out = tmp_path / name
        scores = decode(*arguments, f"--decode_to_file={out}").out
        return read_lines(str(out)), scores

    rows = [json.loads(line) for line in write("out.jsonl")[0]]
    assert [row["line"] for row in rows] == [1, 2, 3]
    assert [len(row["translations"]) for row in rows] == [3, 1, 3]
    for row in rows:
        scores = [found["score"] for found in row["translations"]]
        assert scores == sorted(scores, reverse=True)
    # The other formats hold the same, and the score is that of the first of each line.
    found = [(row["line"], found) for row in rows for found in row["translations"]]
    columns, printed = write("out.tsv")
    assert [line.split("\t")[0::2] for line in columns] == [
        [str(line), f"{each['score']:.6f}"] for line, each in found
    ]
    moses, again = write("out.txt")
    assert moses == [f"{n - 1} ||| {each['text']} ||| {each['score']:.6f}" for n, each in found]
    best = [row["translations"][0]["text"] for row in rows]
    scores = [bleu.sacrebleu_score(best, ["a", "b", "c"]), bleu.chrf_score(best, ["a", "b", "c"])]
    assert printed == again == "".join(f"{score}\n" for score in scores)
    alone = decode(folder, f"--decode_from_file={source}", "--num_best=3", "--output_format=tsv")
    assert alone.out.splitlines() == columns


def test_given_translations_are_scored(run, decode, tmp_path):
    source, target = tmp_path / "in", tmp_path / "target"
    source.write_text("one two three\n" * 3, encoding="utf-8")
    target.write_text("drei zwei eins\n\neins\n", encoding="utf-8")
    files = ["--score", f"--decode_from_file={source}", f"--score_file={target}"]
    totals = [float(line) for line in decode(*files).out.splitlines()]
    assert len(set(totals)) == 3 and max(totals) < 0
    out = tmp_path / "scores.jsonl"
    decode(*files, f"--decode_to_file={out}", "--score_tokens")
    rows = [json.loads(line) for line in read_lines(str(out))]
    assert [row["score"] for row in rows] == pytest.approx(totals, abs=1e-5)
    for row in rows:
        assert row["tokens"][-1][0] == "</s>"
        assert sum(value for _, value in row["tokens"]) == pytest.approx(row["score"], abs=1e-4)
    split = decode("--score", "--decode_split=test").out.splitlines()
    text = run.data.source_dir
    files = [f"--decode_from_file={text}/test.en", f"--score_file={text}/test.de"]
    assert decode("--score", *files).out.splitlines() == split


@pytest.mark.slow
def test_engines_translate_and_score_alike(run, decode, tmp_path):
    test = f"{run.data.source_dir}/test"
    files = [f"--decode_from_file={test}.en", f"--score_file={test}.de"]
    texts, scores = (
        [decode(*files, f"--engine={engine}", *score).out.splitlines() for engine in ENGINES]
        for score in ([], ["--score"])
    )
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 10
    assert [float(s) for s in scores[0]] == pytest.approx([float(s) for s in scores[1]], rel=1e-3)
    assert len(list(pathlib.Path(run.path, "exports").iterdir())) == 1  # the same for both
    too_long = decode(*files, "--engine=litert", "--extra_length=257", status=2).err
    assert "--extra_length=257: LiteRT takes up to 256" in too_long


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--score", "--decode_interactive"], "--score needs translations"),
        (["--score", "--decode_from_file=x"], "--score needs translations"),
        (["--score", "--decode_split=dev", "--num_best=2"], "--num_best is only for translating"),
        (["--score_tokens", "--decode_split=dev"], "--score_tokens is only for --score"),
        (["--decode_split=dev", "--num_best=3", "--sampling_temp=1"], "num_best 3: expected"),
    ],
)
def test_misuse_of_scores_is_one_message(decode, arguments, message):
    assert message in decode(*arguments, status=2).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--rescore_dir={teacher}"],
            "nothing to choose from with num_candidates=1: expected at least 2",
        ),
        (
            ["--num_candidates=3", "--rescore_dir={latent}"],
            "of 'transformer_nat', which cannot score translations. Expected one of: transformer",
        ),
        (
            ["--num_candidates=3", "--rescore_dir=absent"],
            "is not an output directory of t2t-trainer",
        ),
        (["--num_candidates=3", "--beam_size=2", "--sampling_temp=1"], "exclude each other"),
    ],
)
def test_misuse_of_candidates_is_one_message(run, decode, latent_run, arguments, message):
    names = {"teacher": run.path, "latent": latent_run}
    arguments = [argument.format(**names) for argument in arguments]
    result = decode(f"--output_dir={latent_run}", "--decode_interactive", *arguments, status=2)
    assert message in result.err


@pytest.mark.parametrize(
    "flag", ["--num_candidates=2", "--rescore_dir=x", "--return_latents", "--keep_repeats"]
)
def test_flags_of_latent_models_are_refused_for_others(decode, flag):
    result = decode("--decode_interactive", flag, status=2)
    assert f"{flag.split('=')[0]} is only for models that translate with latents" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected exactly one of --decode_from_file, --decode_split, --decode_interactive"),
        (["--decode_interactive", "--decode_split=dev"], "got --decode_split and --decode_inter"),
        (["--decode_from_file=absent.en"], "absent.en"),
        (["--decode_split=test", "--score_file=x"], "--score_file is only for --decode_from_file"),
        (["--decode_split=train"], "--decode_split"),
        (["--decode_interactive", "--beam_size=0"], "--beam_size"),
    ],
)
def test_misuse_is_one_message(decode, arguments, message):
    assert message in decode(*arguments, status=2).err


def test_bad_input_stops_before_any_work(decode, tmp_path):
    source, reference = tmp_path / "latin1.en", tmp_path / "short.de"
    out = tmp_path / "out"
    source.write_bytes(b"one\ntwo\nStra\xdfe\n")
    files = [f"--decode_from_file={source}", f"--decode_to_file={out}"]
    result = decode(*files, status=2)
    assert f"{source}, line 3: not UTF-8" in result.err
    source.write_bytes(b"one\ntwo\n")
    reference.write_bytes(b"eins\n")
    result = decode(*files, f"--score_file={reference}", status=2)
    assert "has 1 lines but" in result.err
    assert not list(tmp_path.glob("out*"))


def test_sampling_and_beams_exclude_each_other(decode, source):
    arguments = [f"--decode_from_file={source}", "--beam_size=2", "--sampling_temp=1"]
    assert "exclude each other" in decode(*arguments, status=2).err


def test_missing_run_and_missing_checkpoint(decode, source, tmp_path):
    file = f"--decode_from_file={source}"
    result = decode(f"--output_dir={tmp_path}", file, status=2)
    assert "is not an output directory of t2t-trainer" in result.err
    result = decode(file, "--checkpoint=averaged", status=2)
    assert "there is no checkpoint 'averaged'" in result.err


def test_codes_report(decode, latent_run, tmp_path):
    """What the codes stand for is written as files, of the train split or of another."""

    def report(*arguments, status=None):
        argv = [f"--output_dir={latent_run}", f"--codes_report={tmp_path / 'codes'}", *arguments]
        with pytest.raises(SystemExit) as caught:
            _main.run(t2t_decoder.main, t2t_decoder.FLAGS, ["t2t-decoder", *argv])
        assert caught.value.code == status
        lines = (tmp_path / "codes" / "codes.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    train = report()
    dev = report("--decode_split=dev", "--checkpoint=best")
    assert [line["code"] for line in train] == list(range(9))
    assert sum(line["count"] for line in train) > 3 * sum(line["count"] for line in dev) > 0
    assert (tmp_path / "codes" / "codes.html").exists()
    report("--beam_size=2", status=2)


def test_codes_report_needs_codes(run, capfd, tmp_path):
    argv = [f"--output_dir={run.path}", f"--codes_report={tmp_path / 'codes'}"]
    with pytest.raises(SystemExit):
        _main.run(t2t_decoder.main, t2t_decoder.FLAGS, ["t2t-decoder", *argv])
    assert "is of the model 'transformer', which has no codes" in capfd.readouterr().err


def test_prefixes_ensembles_and_alignments(decode, run, untrained_run, tmp_path):
    """Of three lines, one without prefix; the second run has other weights."""
    other = untrained_run(tmp_path / "other", TransformerHParams(**SIZES), best=5).path
    source, prefixes = tmp_path / "source.en", tmp_path / "prefixes.de"
    source.write_text("one two three\nfour five\n\nsix\n")
    prefixes.write_text("drei zwei\n\neins\nsechs\n")
    files = [f"--decode_from_file={source}", f"--prefix_file={prefixes}"]
    more = [f"--ensemble_dirs={other}", "--return_alignment", "--output_format=jsonl"]
    found = [json.loads(line)["translations"][0] for line in decode(*files, *more).out.splitlines()]
    assert found[0]["text"].startswith("drei zwei")
    assert found[3]["text"].startswith("sechs")
    assert found[2] == {"text": "", "score": 0.0, "alignment": []}
    for line, number in zip(found, (3, 2, 0, 1), strict=True):
        words = len(line["text"].split())
        assert [target for _, target in line["alignment"]] == list(range(words))
        assert all(0 <= source < number for source, _ in line["alignment"])
    apart = decode(*files, "--output_format=jsonl").out.splitlines()
    scores = [json.loads(line)["translations"][0]["score"] for line in apart]
    assert scores[0] != found[0]["score"]  # the other model has its share


def test_token_models_only(decode, latent_run, tmp_path):
    """What a latent model, another engine or other files do not allow is refused."""
    source = tmp_path / "source.en"
    source.write_text("one\ntwo\n")
    file = f"--decode_from_file={source}"
    for flag in (f"--prefix_file={source}", f"--ensemble_dirs={latent_run}", "--return_alignment"):
        error = decode(file, f"--output_dir={latent_run}", flag, status=2).err
        assert "needs a model that translates token by token" in error
        assert "Expected one of: transformer" in error
    error = decode(file, f"--ensemble_dirs={latent_run}", status=2).err
    assert "an ensemble needs models that translate token by token" in error
    error = decode(file, "--return_alignment", "--engine=litert", status=2).err
    assert "is computed by TensorFlow: omit --engine=litert" in error
    prefixes = tmp_path / "prefixes"
    prefixes.write_text("eins\n")
    error = decode(file, f"--prefix_file={prefixes}", status=2).err
    assert "has 1 lines, and there are 2 to translate" in error
