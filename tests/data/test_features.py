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


ROWS = np.array([4, 1, 3])


def features_of(rows):
    return torch.from_numpy(rows).float()[:, None, None].expand(-1, 2, 3)


def test_features_are_computed_once_for_one_origin(tmp_path):
    asked = []

    def compute(rows):
        asked.append(rows.tolist())
        return features_of(rows)

    folder = tmp_path / "new"
    for rows in (ROWS, ROWS[::-1].copy(), np.array([5, 4, 0]), np.array([0, 1, 3, 4, 5])):
        assert torch.equal(cached_features(folder, {"backbone": "a"}, rows, compute), features_of(rows))
    assert asked == [[1, 3, 4], [0, 5]]
    cached_features(folder, {"backbone": "b"}, ROWS, compute)
    assert asked[2:] == [[1, 3, 4]]


@pytest.mark.parametrize("place", [20, -1])
def test_a_damaged_file_is_made_again(tmp_path, place):
    cached_features(tmp_path, {}, ROWS, features_of)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert torch.equal(cached_features(tmp_path, {}, ROWS, features_of), features_of(ROWS))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="features cannot be written"):
        cached_features(tmp_path / "file" / "inside", {}, ROWS, features_of)
