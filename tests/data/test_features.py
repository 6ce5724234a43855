import numpy as np
import pytest
import torch

from pyg_bgformer.data.features import FeatureSamples, cached_features, view_seeds
from pyg_bgformer.errors import InputError


def test_the_seed_of_a_draw_chooses_the_view():
    features = torch.arange(24.0).view(4, 3, 2)
    samples = FeatureSamples(features, np.array([0, 0, 1, 1]), np.array([7, 5, 3, 1]))
    feature, label, row = samples[2, 10]
    assert torch.equal(feature, features[2, 1])
    assert (label, row) == (1, 3)
    assert torch.equal(samples[3][0], features[3, 0])
    assert len(samples) == 4


def test_seeds_of_views_depend_on_row_and_seed_alone():
    assert view_seeds(3, 4, seed=0) == view_seeds(3, 6, seed=0)[:4]
    assert len(set(view_seeds(3, 4, seed=0) + view_seeds(4, 4, seed=0) + view_seeds(3, 4, seed=1))) == 12
    assert all(0 <= seed < 2**63 for seed in view_seeds(3, 100, seed=0))


def test_features_are_computed_once_for_one_origin(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return torch.full((2, 3), float(len(calls)))

    first = cached_features(tmp_path / "new", {"backbone": "a"}, compute)
    assert torch.equal(cached_features(tmp_path / "new", {"backbone": "a"}, compute), first)
    assert len(calls) == 1
    assert not torch.equal(cached_features(tmp_path / "new", {"backbone": "b"}, compute), first)


@pytest.mark.parametrize("place", [20, -1])
def test_a_damaged_file_is_made_again(tmp_path, place):
    expected = cached_features(tmp_path, {}, lambda: torch.ones(2, 3))
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert torch.equal(cached_features(tmp_path, {}, lambda: torch.ones(2, 3)), expected)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="features cannot be written"):
        cached_features(tmp_path / "file" / "inside", {}, lambda: torch.ones(2, 3))
