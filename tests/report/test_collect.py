import pytest

from pyg_bgformer.errors import InputError
from pyg_bgformer.report.collect import collect
from tests.results import CONFIG, a_result, write_run


@pytest.fixture
def write(tmp_path):
    """Writes a finished run and returns its folder."""

    def write_result(recall=0.5, seed=0, config=None, **changes):
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        config = {**CONFIG, "seed": seed, "runs": str(path), **(config or {})}
        return write_run(path, a_result(recall, seed=seed, config=config, **changes)).path

    return write_result


def test_each_run_gives_a_line_for_each_feature_and_state_of_the_encoder(write):
    last = {"embedding": {"recall_at_1": 0.4, "map_at_r": 0.3}}
    table = collect([write(0.5), write(0.6, seed=1, last=last)])
    assert table["encoder"].tolist() == ["untrained", "trained", "untrained", "trained", "last"]
    assert table["recall_at_1"].tolist() == [0.1, 0.5, 0.1, 0.6, 0.4]
    assert table["seed"].tolist() == [0, 0, 1, 1, 1]
    assert set(table["row"]) == {"plain"}


def test_methods_are_told_apart_by_the_options_in_which_they_differ(write):
    folders = [write(config={"method": {"name": "bgformer", "k": k, "lam": 0.5}}) for k in (5, 9)]
    assert collect(folders)["row"].unique().tolist() == ["bgformer k=5", "bgformer k=9"]
    assert collect(folders, ["a", "b"])["row"].unique().tolist() == ["a", "b"]


def test_a_method_may_have_its_own_loss_and_learning_rate(write):
    own = {"loss": {"name": "n_pair"}, "train": {"lr": 0.2, "epochs": 3}, "method": {"name": "gca_hng"}}
    table = collect([write(), write(config=own)])
    assert table["loss"].iloc[-1] == "n_pair"
    assert table["lr"].iloc[-1] == 0.2


def test_runs_that_differ_in_more_are_refused(write):
    with pytest.raises(InputError, match=r"differ in train\.epochs,"):
        collect([write(), write(config={"train": {"lr": 0.1, "epochs": 4}})])
    with pytest.raises(InputError, match=r"differ in hash\.data,"):
        collect([write(), write(origin={"dataset_manifest_sha256": "other"})])


def test_a_folder_without_a_result_is_named(tmp_path):
    with pytest.raises(InputError, match="finished run"):
        collect([tmp_path])
    with pytest.raises(InputError, match="found no run, expected"):
        collect([])
