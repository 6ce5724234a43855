import pytest

from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.study import tuning
from pyg_bgformer.study.definition import read_study
from pyg_bgformer.study.tuning import read_trials, tune, tuned_study, tuning_jobs

pytest.importorskip("optuna")


@pytest.fixture
def content(content):
    content["common"] |= {"sampler.classes": 2}
    space = {"train.lr": {"log": [1e-5, 1e-2]}, "train.epochs": {"choice": [1, 2]}}
    content["tune"] = {"trials": 3, "space": space}
    content["rows"][1]["space"] = {"method.lam": {"uniform": [0.0, 0.4]}}
    return content


def pretend(monkeypatch, score):
    """Scores a configuration without training; keeps what was asked for."""
    asked = []

    def fold_scores(config, budget):
        asked.append(config)
        return [score(config)]

    monkeypatch.setattr(tuning, "fold_scores", fold_scores)
    return asked


def tune_all(study, folder, display):
    tuning_jobs(study, study.budget, folder)
    for row in study.rows:
        tune(folder / "tuning.db", row.name, display)
    return read_trials(study, study.budget, folder)


def test_every_row_gets_as_many_trials_and_its_recipe_is_the_first(
    content, write, tmp_path, monkeypatch, display
):
    asked = pretend(monkeypatch, lambda config: 1 - config.train.lr)
    study = read_study(write(content))
    trials = tune_all(study, tmp_path, display)
    assert [(trial.row, trial.number) for trial in trials] == [
        (row, number) for row in ("plain", "with k=5") for number in range(3)
    ]
    assert [asked[0], asked[3]] == [row.config for row in study.rows]
    # 0.5 of the recipe is outside of the range of lam: the first trial keeps it and does not list it
    assert trials[3].settings == {"train.lr": 3e-4, "train.epochs": 1}
    assert all(0 <= config.method.options["lam"] <= 0.4 for config in asked[4:])
    assert all(1e-5 <= config.train.lr <= 1e-2 for config in asked)
    # before the sampler learns, all rows get the same values of common settings
    assert [config.train.lr for config in asked[:3]] == [config.train.lr for config in asked[3:]]


def test_the_best_trial_gives_the_settings_of_its_row(content, write, tmp_path, monkeypatch, display):
    pretend(monkeypatch, lambda config: 1 - config.train.lr)
    study = read_study(write(content))
    trials = tune_all(study, tmp_path, display)
    after = tuned_study(study, trials)
    for row in after.rows:
        assert row.config.train.lr == min(t.settings["train.lr"] for t in trials if t.row == row.name)
        assert row.config.protocol.name == "final"
    unchanged = tuned_study(study, [replace_score(trial, trial.number == 0) for trial in trials])
    assert unchanged.rows == study.rows


def replace_score(trial, score):
    return trial._replace(score=float(score))


def test_an_interrupted_tuning_ends_like_one_that_was_never_stopped(
    content, write, tmp_path, monkeypatch, display
):
    def score(config):
        return abs(config.train.lr - 1e-3)

    content["tune"]["trials"] = 7  # so that some are learned from earlier ones
    content["rows"].pop()
    study = read_study(write(content))
    pretend(monkeypatch, score)
    whole = tune_all(study, tmp_path / "whole", display)
    calls = []

    def stop_once(config):
        calls.append(config)
        if len(calls) in (1, 7):
            raise KeyboardInterrupt
        return score(config)

    pretend(monkeypatch, stop_once)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tune_all(study, tmp_path / "stopped", display)
    assert tune_all(study, tmp_path / "stopped", display) == whole
    assert tuning_jobs(study, study.budget, tmp_path / "stopped") == []


def test_a_trial_that_diverges_counts_as_the_worst_and_says_so(
    content, write, tmp_path, monkeypatch, display
):
    def diverge(config):
        if config.train.lr > 3e-4:
            raise RunError("loss term 'loss' is nan")
        return 0.25

    pretend(monkeypatch, diverge)
    trials = tune_all(read_study(write(content)), tmp_path, display)
    failed = [trial for trial in trials if trial.settings["train.lr"] > 3e-4]
    assert failed
    assert {(trial.score, trial.failed) for trial in failed} == {(0.0, "loss term 'loss' is nan")}
    assert {trial.failed for trial in trials if trial not in failed} == {""}
    assert "failed and counts as 0: loss term 'loss' is nan" in display.text()


def test_trials_of_another_recipe_or_space_are_refused_and_more_of_the_same_are_added(
    content, write, tmp_path, monkeypatch, display
):
    pretend(monkeypatch, lambda config: 0.5)
    before = tune_all(read_study(write(content)), tmp_path, display)
    more = tune_all(
        read_study(write({**content, "tune": {**content["tune"], "trials": 4}})), tmp_path, display
    )
    assert [trial for trial in more if trial.number < 3] == before
    assert len(more) == 8
    for changes, words in (
        (
            {"common": {**content["common"], "train.weight_decay": 0.5}},
            "recipe.train.weight_decay: 0.01, expected",
        ),
        ({"tune": {**content["tune"], "folds": 5}}, "budget.folds: 2, expected 5 as in the study"),
        ({"tune": {"trials": 4, "space": {"train.lr": {"log": [1e-4, 1e-2]}}}}, "space.train.lr.log"),
    ):
        study = read_study(write({**content, **changes}))
        with pytest.raises(InputError, match=words):
            tuning_jobs(study, study.budget, tmp_path)


def test_without_optuna_one_line_says_how_to_get_it(content, write, tmp_path, monkeypatch):
    monkeypatch.setitem(tuning.sys.modules, "optuna", None)
    study = read_study(write(content))
    with pytest.raises(InputError, match=r"pip install 'pyg-bgformer\[tune\]'"):
        tuning_jobs(study, study.budget, tmp_path)
