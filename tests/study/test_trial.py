from dataclasses import replace

import pytest

from pyg_bgformer.errors import InputError
from pyg_bgformer.study import trial
from pyg_bgformer.study.definition import read_study
from pyg_bgformer.study.trial import fold_config, fold_scores


@pytest.fixture
def study(content, write):
    content["common"] |= {"sampler.classes": 2}
    content["tune"] = {"trials": 1}
    return read_study(write(content))


def test_a_fold_is_of_the_validation_protocol_and_clusters_only_for_a_score_that_needs_it(study):
    config = fold_config(study.rows[0].config, replace(study.budget, folds=3, seed=7), 2)
    assert (str(config.protocol), config.seed) == ("validation, fold 2 of 3", 7)
    assert not config.evaluation.clustering
    assert fold_config(config, replace(study.budget, score="backbone/nmi"), 0).evaluation.clustering


def test_scores_are_of_each_fold_and_the_same_again(study):
    config = study.rows[0].config
    first = fold_scores(config, study.budget)
    assert len(set(first)) == 2
    assert all(0 < score < 1 for score in first)
    assert fold_scores(config, study.budget) == first


def test_a_trial_trains_in_one_process_also_for_rows_of_several(study, monkeypatch):
    config = study.rows[0].config
    fitted = []
    monkeypatch.setattr(trial, "fit", fitted.append)
    fold_scores(replace(config, train=replace(config.train, devices=2, nodes=2, device="cpu")), study.budget)
    assert [parts.processes.count for parts in fitted] == [1] * study.budget.folds


def test_a_score_that_does_not_exist_is_named(study):
    for score, words in (
        ("embedding/map", "no score 'map'"),
        ("head/nmi", "no feature 'head'; it has backbone"),
    ):
        with pytest.raises(InputError, match=words):
            fold_scores(study.rows[0].config, replace(study.budget, score=score))
