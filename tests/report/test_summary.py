from dataclasses import replace

import pytest

from pyg_bgformer.errors import InputError
from pyg_bgformer.report.summary import collect, statement, summary
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result, write_result
from tests.results import CONFIG, a_result, write_run


def write(path, method, seed, recall, *, changes=None, **config):
    """The folder of a finished run; ``changes`` are of its result, others of its recipe."""
    config = {**CONFIG, "method": method, "seed": seed, "runs": str(path), **config}
    trained = {"embedding": {"recall_at_1": recall, "map_at_r": recall / 2, "nmi": 0.5}}
    result = a_result(recall, config=config, seed=seed, trained=trained, **(changes or {}))
    return write_run(path, result).path


@pytest.fixture
def runs(tmp_path):
    plain, bgformer = {"name": "plain"}, {"name": "bgformer", "k": 5}
    recalls = [
        (plain, 0, 0.50),
        (plain, 1, 0.60),
        (bgformer, 0, 0.54),
        (bgformer, 1, 0.60),
        (bgformer, 2, 0.99),
    ]
    return [write(tmp_path / str(i), *run) for i, run in enumerate(recalls)]


def test_each_run_gives_a_row_for_each_state_of_the_encoder(runs):
    table = collect(runs)
    assert len(table) == 10
    assert table[table["encoder"] == "trained"]["recall_at_1"].tolist() == [0.50, 0.60, 0.54, 0.60, 0.99]
    assert set(table["method"]) == {"plain", "bgformer"}


def test_means_intervals_and_paired_differences(runs):
    lines = summary(collect(runs), "plain").splitlines()
    assert lines[2].startswith("| embedding | untrained encoder | 2 | 10.0 ± 0.0 |  |")
    # Student's t of 95% is 12.706 for two seeds, 4.303 for three; deviations are 7.07 and 24.43.
    assert lines[3].startswith("| embedding | plain | 2 | 55.0 ± 63.5 |  |")
    # seed 2 has no partner: the difference is of seeds 0 and 1
    assert lines[4].startswith("| embedding | bgformer | 3 | 71.0 ± 60.7 | +2.0 ± 25.4 |")


def test_a_difference_is_bold_if_its_interval_leaves_zero_out(tmp_path):
    recalls = [("plain", 0, 0.5), ("plain", 1, 0.6), ("new", 0, 0.6), ("new", 1, 0.7), ("bad", 0, 0.3)]
    folders = [write(tmp_path / f"{name}{seed}", {"name": name}, seed, r) for name, seed, r in recalls]
    bad, new = summary(collect(folders), "plain").splitlines()[-2:]
    assert "| **+10.0 ± 0.0** |" in new
    assert "| -20.0 |" in bad  # one seed has no interval


def test_a_feature_that_the_reference_lacks_has_no_difference(tmp_path):
    plain = write(tmp_path / "plain", {"name": "plain"}, 0, 0.5)
    scores = {"recall_at_1": 0.5, "map_at_r": 0.25, "nmi": 0.5}
    both = a_result(
        trained={"embedding": scores, "refined": scores}, config={**CONFIG, "method": {"name": "other"}}
    )
    other = write_run(tmp_path / "other", both).path
    last = summary(collect([plain, other]), "plain").splitlines()[-1]
    assert last == "| refined | other | 1 | 50.0 |  | 25.0 |  | 50.0 |  |"


def test_methods_are_told_apart_by_the_options_in_which_they_differ(tmp_path):
    options = [{"name": "bgformer", "k": 5, "lam": 0.5}, {"name": "bgformer", "k": 9, "lam": 0.5}]
    folders = [write(tmp_path / str(i), method, 0, 0.5) for i, method in enumerate(options)]
    assert collect(folders)["method"].unique().tolist() == ["bgformer k=5", "bgformer k=9"]


def test_runs_of_different_recipes_are_refused(tmp_path, runs):
    other = write(tmp_path / "other", {"name": "plain"}, 0, 0.5, train={"lr": 0.1, "epochs": 4})
    with pytest.raises(InputError, match="differ in train"):
        collect([*runs, other])


def test_a_method_may_have_its_own_loss_and_learning_rate(tmp_path, runs):
    own = {"loss": {"name": "n_pair"}, "train": {"lr": 0.2, "epochs": 3}}
    table = collect([*runs, write(tmp_path / "other", {"name": "gca_hng"}, 0, 0.5, **own)])
    assert table["loss"].iloc[-1] == "n_pair"
    assert table["lr"].iloc[-1] == 0.2


def test_a_folder_without_a_result_and_a_missing_reference_are_named(tmp_path, runs):
    with pytest.raises(InputError, match="not the folder of a finished run"):
        collect([tmp_path])
    with pytest.raises(InputError, match="no run of 'triplet'"):
        summary(collect(runs), "triplet")


def test_a_table_of_best_test_epochs_states_their_gap_to_the_last_ones(runs):
    for path, last in zip(runs, [0.49, 0.60, 0.50, 0.60, 0.99], strict=True):
        folder = RunFolder(path)
        result = read_result(folder)
        scores = {"embedding": {**result.trained["embedding"], "recall_at_1": last}}
        write_result(folder, replace(result, last=scores, protocol="literature, best test epoch"))
    table = collect(runs)
    assert table[table["encoder"] == "last"]["recall_at_1"].tolist() == [0.49, 0.60, 0.50, 0.60, 0.99]
    told = statement(table)
    assert "protocol: literature, best test epoch" in told
    assert "to the last epochs in Recall@1 of the embedding: plain +0.5, bgformer +1.3" in told
    assert summary(table, "plain").count("| plain |") == 1


def test_a_table_of_last_epochs_has_no_gap(runs):
    assert "gap" not in statement(collect(runs))
