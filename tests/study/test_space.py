import pytest

from pyg_bgformer.errors import InputError
from pyg_bgformer.study.definition import read_study
from pyg_bgformer.study.space import Budget, Values


def test_a_range_knows_its_values():
    assert 0.5 in Values("uniform", (0, 1))
    assert 1 in Values("log", (0.1, 1.0))
    assert 2.0 not in Values("int", (1, 3))
    assert 2 in Values("int", (1, 3))
    assert 4 not in Values("int", (1, 3))
    assert None in Values("choice", (None, "graph"))
    assert None not in Values("uniform", (0, 1))
    assert True not in Values("int", (0, 1))
    assert str(Values("log", (1e-5, 1e-2))) == "1e-05 to 0.01 (log)"


def test_a_row_adds_to_the_common_space_and_overrides_it_and_keeps_what_it_sets_itself(content, write):
    content["tune"] = {
        "trials": 3,
        "folds": 4,
        "space": {"train.lr": {"log": [0.001, 0.1]}, "train.epochs": {"int": [1, 5]}},
    }
    content["rows"][1] |= {
        "space": {"method.lam": {"uniform": [0, 1]}, "train.epochs": {"choice": [7]}},
        "set": {"train.lr": 0.5},
    }
    study = read_study(write(content))
    assert study.budget == Budget(trials=3, folds=4)
    assert study.rows[0].space == {
        "train.lr": Values("log", (0.001, 0.1)),
        "train.epochs": Values("int", (1, 5)),
    }
    assert study.rows[1].space == {
        "train.epochs": Values("choice", (7,)),
        "method.lam": Values("uniform", (0, 1)),
    }


@pytest.mark.parametrize(
    ("tune", "words"),
    [
        ({}, "'tune.trials' is missing"),
        ({"trials": 0}, "tune.trials: expected a whole number from 1, found 0"),
        ({"trials": 2, "fold": 3}, "unknown key 'tune.fold'; did you mean 'folds'"),
        ({"trials": 2, "folds": 1}, "tune.folds: .* from 2"),
        ({"trials": 2, "score": "nmi"}, "FEATURE/SCORE"),
        ({"trials": 2, "space": {"train.lr": [0, 1]}}, r"tune.space.train.lr: expected \{log"),
        ({"trials": 2, "space": {"train.lr": {"log": [0, 1]}}}, "expected a range above 0"),
        ({"trials": 2, "space": {"train.lr": {"log": [1, 0.1]}}}, "lowest and the highest"),
        ({"trials": 2, "space": {"train.epochs": {"int": [1, 2.5]}}}, "whole numbers"),
        ({"trials": 2, "space": {"train.epochs": {"choice": []}}}, "a list of values"),
        ({"trials": 2, "space": {"train.epochs": {"choice": [[1]]}}}, "text, true, false or null"),
        ({"trials": 2, "space": {"train.lrr": {"log": [0.1, 1]}}}, "row 'plain': .*'train.lr'"),
        ({"trials": 2, "space": {"train.epochs": {"int": [0, 3]}}}, "row 'plain': .*train.epochs"),
        ({"trials": 2, "space": {"seed": {"int": [0, 3]}}}, "'seed' cannot be set here"),
    ],
)
def test_mistakes_give_one_line_that_names_them(content, write, tune, words):
    with pytest.raises(InputError, match=words) as error:
        read_study(write({**content, "tune": tune}))
    assert "\n" not in str(error.value)


def test_a_space_without_a_budget_is_refused(content, write):
    content["rows"][0]["space"] = {"train.lr": {"log": [0.1, 1]}}
    with pytest.raises(InputError, match="the study does not tune"):
        read_study(write(content))
