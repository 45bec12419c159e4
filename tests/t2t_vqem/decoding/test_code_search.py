"""The search for codes, compared with trying all codes in float64."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.decoding.code_search import search_codes

B, H, W, CODES, WIDTH, BLOCK = (
    3,
    5,
    4,
    5,
    3,
    2,
)  # as many codes as candidates and the current one together
CODEBOOKS = pytest.mark.parametrize("num_codebooks", [1, 2])


class Case:
    """Random codes, weights and images; a code affects the blocks within `reach` of its place."""

    def __init__(self, num_codebooks: int, reach: int, residual: bool = False, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.residual = residual
        self.codebooks = rng.normal(size=[num_codebooks, CODES, WIDTH])
        self.reach = reach
        size = 2 * reach + 1
        width = WIDTH if residual else num_codebooks * WIDTH
        self.kernel = rng.normal(size=[size, size, width, BLOCK**2])
        self.images = rng.normal(0, 3, [B, BLOCK * H, BLOCK * W, 1])
        self.ids = rng.integers(0, CODES, [B, H, W, num_codebooks])

    def decode(self, vectors: tf.Tensor) -> tf.Tensor:
        kernel = tf.constant(self.kernel, tf.float32)
        blocks = tf.nn.conv2d(vectors, kernel, 1, "SAME")
        return tf.nn.depth_to_space(blocks, BLOCK)

    def search(self, num_passes: int, *, xla: bool = False) -> np.ndarray:
        @tf.function(jit_compile=xla)
        def search(images, ids):
            return search_codes(
                images,
                ids,
                codebooks=tf.constant(self.codebooks, tf.float32),
                steps=tf.ones([len(self.codebooks)]),
                decode=self.decode,
                num_passes=num_passes,
                residual=self.residual,
            )

        return search(tf.constant(self.images), tf.constant(self.ids, tf.int32)).numpy()

    def errors(self, ids: np.ndarray) -> np.ndarray:
        """Returns the squared error [B] of the images decoded from codes, in float64."""
        codes = [codes[ids[..., c]] for c, codes in enumerate(self.codebooks)]
        vectors = sum(codes) if self.residual else np.concatenate(codes, -1)
        around = [(0, 0), (self.reach, self.reach), (self.reach, self.reach), (0, 0)]
        padded = np.pad(vectors, around)
        blocks = sum(
            padded[:, i : i + H, j : j + W] @ self.kernel[i, j]
            for i in range(len(self.kernel))
            for j in range(len(self.kernel))
        )
        decoded = blocks.reshape([B, H, W, BLOCK, BLOCK]).transpose([0, 1, 3, 2, 4])
        return ((self.images[..., 0] - decoded.reshape(self.images.shape[:3])) ** 2).sum((1, 2))

    def least_by_one_change(self, ids: np.ndarray) -> np.ndarray:
        """Returns the smallest squared error [B] of codes of which at most one was changed."""
        least = self.errors(ids)
        for place in np.ndindex(*ids.shape[1:]):
            for code in range(CODES):
                changed = ids.copy()
                changed[(slice(None), *place)] = code
                least = np.minimum(least, self.errors(changed))
        return least


def test_codes_that_stand_alone_become_the_best():
    """If each block depends on one code, the best code is found by trying all of them."""
    case = Case(num_codebooks=1, reach=0)
    found = case.search(num_passes=1)
    best = np.zeros_like(case.ids)
    for place in np.ndindex(H, W):
        errors = []
        for code in range(CODES):
            changed = case.ids.copy()
            changed[(slice(None), *place)] = code
            errors.append(case.errors(changed))
        best[(slice(None), *place, 0)] = np.argmin(errors, 0)
    np.testing.assert_array_equal(found, best)
    assert (best != case.ids).mean() > 0.5


@pytest.mark.parametrize(("num_codebooks", "residual"), [(1, False), (2, False), (2, True)])
def test_after_convergence_no_single_change_reduces_the_error(num_codebooks, residual):
    case = Case(num_codebooks, reach=1, residual=residual)
    found = case.search(num_passes=20)
    np.testing.assert_array_equal(case.search(num_passes=21), found)
    np.testing.assert_allclose(case.least_by_one_change(found), case.errors(found), rtol=1e-9)
    assert (case.errors(found) < 0.8 * case.errors(case.ids)).all()


@CODEBOOKS
def test_every_pass_reduces_the_error(num_codebooks):
    case = Case(num_codebooks, reach=1)
    errors = [case.errors(case.search(n)) for n in range(3)]
    np.testing.assert_array_equal(errors[0], case.errors(case.ids))
    assert (errors[1] < errors[0]).all()
    assert (errors[2] < errors[1]).any()
    assert (errors[2] <= errors[1]).all()


def test_no_image_becomes_worse_by_what_is_far_from_its_codes():
    """Each code affects the whole image, of which the search examined only a part."""
    kept = 0
    for seed in range(10):
        case = Case(num_codebooks=1, reach=4, seed=seed)
        found = case.search(num_passes=2)
        assert (case.errors(found) <= case.errors(case.ids)).all()
        kept += (found == case.ids).all((1, 2, 3)).sum()
    assert 0 < kept < 10 * B  # for some images the codes found are worse, and the old ones are kept


@pytest.mark.parametrize(("step", "found"), [(3.4, 25), (1.4, 23), (30.4, 20)])
def test_codes_are_looked_for_a_step_against_the_gradient(step, found):
    """Codes 0 to 49 mean brightness: 30 is best; the four codes closest to 20 + step are tried.

    Closest to 50.4 are 46 to 49, which are worse than 20.
    """
    codes = search_codes(
        tf.fill([1, 1, 1, 1], 30.0),
        tf.fill([1, 1, 1, 1], 20),
        codebooks=tf.reshape(tf.range(50.0), [1, 50, 1]),
        steps=tf.constant([step]),
        decode=lambda vectors: vectors,
        num_passes=1,
    )
    assert int(codes[0, 0, 0, 0]) == found


@CODEBOOKS
def test_compiled_codes_are_the_same(num_codebooks):
    case = Case(num_codebooks, reach=1)
    np.testing.assert_array_equal(case.search(2, xla=True), case.search(2))


def test_images_are_searched_independently():
    case = Case(num_codebooks=2, reach=1)
    together = case.search(2)
    for row in range(B):
        alone = Case(num_codebooks=2, reach=1)
        alone.images, alone.ids = case.images[row : row + 1], case.ids[row : row + 1]
        np.testing.assert_array_equal(alone.search(2)[0], together[row])
