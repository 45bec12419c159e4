import json

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.output_dir import OutputDir
from t2t_vqem.training.metrics_log import EVAL, TRAIN, MetricsLog


@pytest.fixture
def output_dir(tmp_path):
    return OutputDir(str(tmp_path / "run"))


def open_log(output_dir, start_step=0, is_chief=True):
    return MetricsLog(output_dir, start_step=start_step, is_chief=is_chief)


def fill(output_dir):
    log = open_log(output_dir)
    for step in (10, 20, 30):
        log.write(TRAIN, step, {"loss": 1 / step})
    log.write(EVAL, 20, {"loss": 2.5, "bleu": 31.25}, signature="13a")
    log.close()


def test_lines_have_the_written_values(output_dir):
    fill(output_dir)
    lines = MetricsLog.read(output_dir)
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("train", 10),
        ("train", 20),
        ("train", 30),
        ("eval", 20),
    ]
    assert lines[3]["bleu"] == 31.25
    assert lines[3]["signature"] == "13a"
    assert 0 <= lines[0]["seconds"] <= lines[3]["seconds"]


def test_tensorboard_gets_the_numbers(output_dir):
    fill(output_dir)
    (path,) = tf.io.gfile.glob(output_dir.join("eval", "events*"))
    values = {}
    for record in tf.data.TFRecordDataset(path):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            values[value.tag] = (event.step, float(tf.make_ndarray(value.tensor)))
    assert values == {"loss": (20, 2.5), "bleu": (20, 31.25)}


def test_tensorboard_gets_the_pictures(output_dir):
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    buckets = np.array([[0.0, 1.0, 7.0], [1.0, 2.0, 0.0]])
    log = open_log(output_dir)
    log.write_pictures(EVAL, 20, {"samples": image}, {"usage": buckets})
    log.close()
    assert MetricsLog.read(output_dir) == []  # they are for display only
    (path,) = tf.io.gfile.glob(output_dir.join("eval", "events*"))
    found = {}
    for record in tf.data.TFRecordDataset(path):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert event.step == 20
            found[value.metadata.plugin_data.plugin_name] = (value.tag, value.tensor)
    tag, tensor = found.pop("images")
    width, height, png = tf.make_ndarray(tensor)
    assert (tag, width, height) == ("samples", b"3", b"2")
    np.testing.assert_array_equal(tf.io.decode_png(png), image)
    tag, tensor = found.pop("histograms")
    assert tag == "usage"
    np.testing.assert_array_equal(tf.make_ndarray(tensor), buckets)
    assert not found


def test_continuing_drops_repeated_steps_and_adds_up_time(output_dir):
    fill(output_dir)
    lines = MetricsLog.read(output_dir)
    for line in lines:
        line["seconds"] = 100.0 + line["step"]
    path = output_dir.join("metrics.jsonl")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
        file.write('{"kind": "train", "step": 4')  # truncated by a kill
    log = open_log(output_dir, start_step=20)
    assert [line["step"] for line in MetricsLog.read(output_dir)] == [10, 20, 20]
    assert 120 <= log.seconds < 130
    assert log.has_evaluation(20)
    assert not log.has_evaluation(30)


def test_only_the_first_process_writes(output_dir):
    fill(output_dir)
    before = MetricsLog.read(output_dir)
    log = open_log(output_dir, start_step=10, is_chief=False)
    log.write(EVAL, 40, {"loss": 1.0})
    log.write_pictures(EVAL, 40, {"samples": np.zeros([2, 2, 1], np.uint8)}, {})
    assert MetricsLog.read(output_dir) == before
    assert log.has_evaluation(40)  # all processes must get the same answer
