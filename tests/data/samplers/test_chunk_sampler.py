from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_bgformer.data import ChunkSampler
from pyg_bgformer.errors import InputError
from tests.data.samplers.drawing import LABELS, drawn, shuffled_labels


@given(shuffled_labels(), st.integers(1, 8), st.integers(1, 6))
def test_every_image_is_shown_in_chunks_of_one_class(labels, classes, samples):
    sampler = ChunkSampler(labels, classes=classes, samples=samples, seed=0)
    p = sampler.classes
    plan = drawn(sampler)
    chunks = [batch[i : i + samples] for batch in plan for i in range(0, p * samples, samples)]
    assert set().union(*plan) == set(range(len(labels)))
    assert all(len(set(labels[chunk])) == 1 for chunk in chunks)
    expected = {label: max(n, samples) // samples + 1 for label, n in Counter(labels.tolist()).items()}
    given_chunks = Counter(int(labels[chunk[0]]) for chunk in chunks)
    assert all(given_chunks[label] >= count for label, count in expected.items())
    # Further chunks only fill the last batch.
    assert len(chunks) - sum(expected.values()) == -sum(expected.values()) % p


def test_chunks_that_fill_the_last_batch_differ_from_each_other():
    plan = drawn(ChunkSampler(LABELS, classes=4, samples=3, seed=0))
    chunks = [tuple(batch[i : i + 3]) for batch in plan for i in range(0, 12, 3)]
    large = [chunk for chunk in chunks if (LABELS[chunk[0]] == LABELS).sum() > 3]
    assert all(times <= 2 for times in Counter(large).values())


def test_a_class_that_k_divides_gives_a_whole_further_chunk_without_repetition():
    plan = drawn(ChunkSampler(np.zeros(8, dtype=int), classes=1, samples=4, seed=3))
    assert len(plan) == 3
    assert all(len(set(chunk)) == 4 for chunk in plan)
    assert sorted(Counter(chain.from_iterable(plan)).values()) == [1] * 4 + [2] * 4


def test_a_class_smaller_than_k_is_topped_up():
    plan = drawn(ChunkSampler(np.array([0, 0, 0, 1, 1, 1, 1, 1]), classes=2, samples=5, seed=0))
    first = [batch[i : i + 5] for batch in plan for i in (0, 5) if batch[i] < 3]
    assert len(first) == 2
    assert {0, 1, 2} <= set(chain.from_iterable(first))
    assert Counter(first[0] + first[1]) == Counter({i: 2 * c for i, c in Counter(first[0]).items()})


def test_a_class_can_occur_twice_in_a_batch():
    plan = drawn(ChunkSampler(LABELS, classes=7, samples=2, seed=0))
    assert any(len(set(LABELS[batch].tolist())) < 7 for batch in plan)


def test_redraw_takes_every_divisor_and_keeps_the_size_of_a_batch():
    labels = np.repeat(np.arange(30), 6)
    sampler = ChunkSampler(labels, classes=6, samples=9, seed=0, redraw=True)
    chunks = {k: 30 * (max(6, k) // k + 1) for k in (27, 18, 9, 6, 3, 2)}
    lengths = {-(-count // (54 // k)) for k, count in chunks.items()}
    seen = set()
    for epoch in range(60):
        plan = drawn(sampler, epoch)
        assert all(len(batch) == 54 for batch in plan)
        seen.add(len(plan))
    assert seen == lengths


@pytest.mark.parametrize(
    ("classes", "samples", "said"),
    [
        (7, 1, "redraw: a batch of 7 images cannot be divided"),
        (7, 20, "redraw: 70 chunks of 2|35 chunks of 4"),
    ],
)
def test_sizes_that_cannot_be_redrawn_are_refused(classes, samples, said):
    with pytest.raises(InputError, match=said):
        ChunkSampler(LABELS, classes=classes, samples=samples, seed=0, redraw=True)
