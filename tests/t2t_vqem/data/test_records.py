import errno
import math
import os

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from t2t_vqem.constants import UsageError
from t2t_vqem.data.records import Field, RecordReader, RecordWriter, Schema

PAIR = Schema([Field("inputs", "uint16", (None,)), Field("targets", "uint16", (None,))])


def pair(number: int) -> dict[str, np.ndarray]:
    """Returns a record that is different for every number."""
    return {"inputs": np.arange(number % 5) + number, "targets": np.array([number])}


def write(path, numbers) -> str:
    with RecordWriter(str(path), PAIR) as writer:
        for number in numbers:
            writer.write(pair(number))
    assert writer.num_records == len(numbers)
    return str(path)


@st.composite
def schema_and_record(draw):
    fields, record = [], {}
    for position in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(["uint8", "uint16", "int32", "float32", "int64"]))
        size = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        name = f"field{position}"
        shape = tuple(draw(st.sampled_from([n, None])) for n in size)
        fields.append(Field(name, dtype, shape))
        elements = {"allow_nan": False} if dtype == "float32" else None
        record[name] = draw(hnp.arrays(dtype, size, elements=elements))
    return Schema(fields), record


@hypothesis.given(schema_and_record())
def test_decode_inverts_encode(example):
    schema, record = example
    decoded = Schema.from_json(schema.to_json()).decode(schema.encode(record))
    assert decoded.keys() == record.keys()
    for name, array in record.items():
        assert decoded[name].dtype == array.dtype
        np.testing.assert_array_equal(decoded[name], array, strict=True)


@hypothesis.given(schema_and_record(), st.integers(1, 3))
def test_decode_detects_missing_and_surplus_bytes(example, count):
    schema, record = example
    data = schema.encode(record)
    with pytest.raises(ValueError, match="bytes"):
        schema.decode(data + b"x" * count)
    if len(data) >= count:
        with pytest.raises(ValueError, match="bytes"):
            schema.decode(data[:-count])


def test_encode_takes_any_dtype_whose_values_fit():
    data = PAIR.encode({"inputs": np.array([1, 65535]), "targets": np.array([], np.float64)})
    np.testing.assert_array_equal(PAIR.decode(data)["inputs"], np.array([1, 65535], np.uint16))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"inputs": [1]}, r"the record has \['inputs'\], expected \['inputs', 'targets'\]"),
        ({"inputs": [1], "targets": [[1]]}, r"targets: shape \(1, 1\), expected \(None,\)"),
        ({"inputs": [65536], "targets": [1]}, "inputs: a value does not fit uint16"),
        ({"inputs": [-1], "targets": [1]}, "inputs: a value does not fit uint16"),
        ({"inputs": [0.5], "targets": [1]}, "inputs: a value does not fit uint16"),
    ],
)
def test_encode_rejects(record, message):
    with pytest.raises(ValueError, match=message):
        PAIR.encode({name: np.array(value) for name, value in record.items()})


def test_encode_rejects_a_wrong_size():
    with pytest.raises(ValueError, match=r"image: shape \(2, 4\), expected \(2, 3\)"):
        Schema([Field("image", "uint8", (2, 3))]).encode({"image": np.zeros((2, 4))})


def test_images_can_be_stored(tmp_path):
    schema = Schema([Field("image", "uint8", (3, 5, 2)), Field("label", "int32", ())])
    images = np.arange(7 * 30, dtype=np.uint8).reshape(7, 3, 5, 2)
    with RecordWriter(str(tmp_path / "a"), schema) as writer:
        for label, image in enumerate(images):
            writer.write({"image": image, "label": np.array(label)})
    record = RecordReader([str(tmp_path / "a")], schema).read([6])[0]
    np.testing.assert_array_equal(record["image"], images[6])
    assert record["label"] == 6 and record["label"].shape == ()


def test_reads_records_of_several_shards_in_the_given_order(tmp_path):
    paths = [
        write(tmp_path / "a", range(37)),
        write(tmp_path / "b", []),
        write(tmp_path / "c", range(37, 38)),
        write(tmp_path / "d", range(38, 101)),
    ]
    reader = RecordReader(paths, PAIR)
    assert len(reader) == 101
    indices = np.array([100, 0, 37, 36, 38, 37, 5, 99])
    for index, record in zip(indices, reader.read(indices), strict=True):
        np.testing.assert_array_equal(record["inputs"], pair(index)["inputs"])
        assert record["targets"] == [index]
    assert reader.read(np.array([], np.int64)) == []


@pytest.mark.parametrize("index", [-1, 3])
def test_a_number_out_of_range_is_an_error(tmp_path, index):
    reader = RecordReader([write(tmp_path / "a", range(3))], PAIR)
    with pytest.raises(IndexError, match=f"record {index}, expected 0 to 2"):
        reader.read([index])


def test_a_corrupt_record_is_named(tmp_path):
    path = write(tmp_path / "a", range(5000))
    data = bytearray((tmp_path / "a").read_bytes())
    place = data.find(np.array([4321], "<u2").tobytes() * 2)
    assert place > 0
    data[place] ^= 1
    (tmp_path / "a").write_bytes(data)
    reader = RecordReader([write(tmp_path / "z", range(10)), path], PAIR)
    assert reader.read([10 + 17])[0]["targets"] == [17]
    with pytest.raises(UsageError, match=rf"{path}: record 4321 is corrupt.*t2t-datagen again"):
        reader.read([3, 10 + 17, 10 + 4321])


def test_records_of_another_schema_are_an_error(tmp_path):
    path = write(tmp_path / "a", range(3))
    other = Schema([Field("image", "uint8", (40, 40))])
    with pytest.raises(UsageError, match=rf"{path}: record 1 is corrupt \(\d+ bytes"):
        RecordReader([path], other).read([1])


@pytest.mark.parametrize("fraction", [0, 0.3, 0.99])
def test_a_truncated_shard_is_an_error(tmp_path, fraction):
    path = write(tmp_path / "a", range(500))
    os.truncate(path, math.floor(fraction * os.path.getsize(path)))
    with pytest.raises(UsageError, match=f"{path}: incomplete or not a shard"):
        RecordReader([path], PAIR)


def test_a_missing_shard_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="nowhere: cannot be read.*No such file"):
        RecordReader([str(tmp_path / "nowhere")], PAIR)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_os_error_that_says_so():
    with pytest.raises(OSError, match="No space left on device") as caught:
        write("/dev/full", range(50_000))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == "/dev/full"


def test_the_first_error_is_the_one_reported(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        RecordWriter(str(tmp_path / "a"), PAIR) as writer,
    ):
        writer.write(pair(1))
        1 / 0  # noqa: B018
