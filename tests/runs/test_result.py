import json

import pytest

from pyg_bgformer.errors import InputError
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result, read_scores
from tests.results import a_result, write_run


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", a_result(last={"embedding": {"recall_at_1": 0.25, "queries": 3}}))


def test_a_result_is_read_as_it_was_written(folder):
    assert read_result(folder) == a_result(last={"embedding": {"recall_at_1": 0.25, "queries": 3}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[1]", "schema None, expected 1"),
        ('{"schema": 2}', "schema 2, expected 1"),
        ("[" * 100_000, "is damaged"),
        ('{"schema": ' + "9" * 5000 + "}", "is damaged"),
    ],
)
def test_a_damaged_result_is_refused_in_one_line(folder, content, message):
    folder.result.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_result(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "1"}, "seed: expected a whole number, found text"),
        ({"seed": True}, "seed: expected a whole number, found true or false"),
        ({"trained": {"embedding": 1}}, "trained, embedding: expected a mapping, found a whole number"),
        ({"refined_features": [1]}, "refined_features, item 1: expected text"),
        ({"last": 3}, "last: expected a mapping"),
        ({"provenance": {}}, "provenance: dataset, .* is missing"),
        ({"colour": "red"}, "colour is unknown"),
    ],
)
def test_a_value_of_another_type_is_named(folder, change, message):
    content = json.loads(folder.result.read_text())
    folder.result.write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError, match=message):
        read_result(folder)


def test_a_run_without_a_result_is_named(tmp_path):
    with pytest.raises(InputError, match="not the folder of a finished run"):
        read_result(RunFolder(tmp_path))


def test_scores_are_checked_too(tmp_path):
    file = tmp_path / "untrained.json"
    file.write_text('{"embedding": {"recall_at_1": "high"}}')
    with pytest.raises(InputError, match=r"untrained\.json, embedding, recall_at_1: expected a number"):
        read_scores(file)


@pytest.mark.parametrize(
    ("change", "dependent"), [(2e-6, False), (2e-4, True), (float("nan"), True), (float("inf"), True)]
)
def test_a_change_beyond_rounding_depends_on_the_batch(change, dependent):
    assert a_result(batch_dependence=change).batch_dependent == dependent
