import numpy as np
import pytest

from t2t_vqem.inference.batching import LENGTH_BUCKETS, full_rows, length_bucket, pack


@pytest.mark.parametrize("num_lines", [0, 1, 2, 5, 100, 2048])
@pytest.mark.parametrize("batch_tokens", [1, 7, 300, 4096])
def test_every_line_is_in_one_batch_and_fits(num_lines, batch_tokens):
    lengths = np.random.default_rng(num_lines).integers(1, 700, num_lines)
    batches = pack(lengths.tolist(), batch_tokens)
    members = [member for batch in batches for member in batch.members]
    assert sorted(members) == list(range(num_lines))
    for batch in batches:
        assert 0 < len(batch.members) <= batch.rows
        assert max(lengths[batch.members]) <= batch.length
        assert batch.rows * batch.length <= max(batch_tokens, batch.length)


def test_longest_lines_come_first_and_equal_ones_keep_their_order():
    batches = pack([3, 9, 3, 20, 9, 3], 16)
    assert [batch.members.tolist() for batch in batches] == [[3], [1], [4], [0, 2], [5]]
    batches = pack([3, 9, 3, 20, 9, 3], 10_000)
    assert [batch.members.tolist() for batch in batches] == [[3, 1, 4, 0, 2, 5]]


def test_shapes_are_few():
    lengths = np.random.default_rng(5).integers(1, 97, 2000).tolist()
    shapes = {batch[1:] for batch in pack(lengths, 2048)}
    full = {(full_rows(length, 2048), length) for length in LENGTH_BUCKETS if length <= 96}
    assert shapes <= full


def test_a_few_lines_do_not_fill_a_large_batch():
    assert pack([5, 6, 7], 4096)[0][1:] == (4, 8)
    assert pack([5], 4096)[0][1:] == (1, 8)


def test_most_positions_are_used():
    lengths = np.random.default_rng(7).integers(5, 60, 2048)
    padded = sum(batch.rows * batch.length for batch in pack(lengths.tolist(), 4096))
    assert lengths.sum() / padded > 0.7


@pytest.mark.parametrize(
    ("length", "bucket"), [(1, 8), (8, 8), (9, 16), (25, 32), (33, 48), (512, 512), (513, 1024)]
)
def test_lengths_are_rounded_up(length, bucket):
    assert length_bucket(length) == bucket


@pytest.mark.parametrize(
    ("length", "tokens", "rows"), [(8, 4096, 512), (24, 4096, 128), (48, 4096, 64), (512, 100, 1)]
)
def test_rows_are_a_power_of_two_within_the_budget(length, tokens, rows):
    assert full_rows(length, tokens) == rows


@pytest.mark.parametrize("count,rows", [(1, [1]), (2, [1, 1]), (5, [4, 4]), (32, [16, 16])])
def test_few_lines_are_divided_among_parallel_batches(count, rows):
    batches = pack([7] * count, 4096, concurrency=2)
    assert [batch.rows for batch in batches] == rows
    assert sorted(np.concatenate([batch.members for batch in batches])) == list(range(count))
