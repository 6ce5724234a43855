from datetime import date

import pytest

from pyg_bgformer.errors import InputError
from pyg_bgformer.study.definition import read_study


def test_rows_are_recipes_with_what_is_common_and_what_is_their_own(content, write, tmp_path):
    study = read_study(write(content))
    plain, other = study.rows
    assert (study.name, study.title, study.results) == ("mine", "Does it help?", tmp_path / "results")
    assert [row.name for row in study.rows] == ["plain", "with k=5"]
    assert {row.reference for row in study.rows} == {"plain"}
    assert (plain.config.method.name, other.config.method.name) == ("plain", "bgformer")
    assert other.config.method.options["k"] == 5
    assert plain.config.train.epochs == other.config.train.epochs == 1
    assert plain.seeds == other.seeds == (0, 1)
    assert read_study(write({**content, "seeds": 5})).rows[0].seeds == (0, 1, 2, 3, 4)


def test_without_a_folder_of_recipes_a_row_names_a_shipped_recipe_or_a_file(content, write, tmp_path):
    del content["recipes"], content["results"]
    content["rows"] = [{"name": "plain", "recipe": "digits/plain"}, {"name": "other", "recipe": "other.yaml"}]
    (tmp_path / "other.yaml").write_text("method: {name: dybgr}")
    study = read_study(write(content))
    assert [row.config.method.name for row in study.rows] == ["plain", "dybgr"]
    assert study.results == tmp_path / "results"
    content["rows"][0]["recipe"] = "digits/plan"
    with pytest.raises(InputError, match="did you mean 'digits/plain'"):
        read_study(write(content))


def test_rows_that_replace_a_part_drop_the_recipes_options_of_it_and_say_so_once(content, write, capsys):
    grid = {"train.lr": [0.1, 0.2]}
    content["rows"][1] = {"recipe": "plain", "set": {"loss.name": "multi_similarity"}, "grid": grid}
    rows = read_study(write(content)).rows
    assert len(rows) == 3
    assert rows[1].config.loss.name == "multi_similarity"
    assert "tau" not in rows[1].config.loss.options
    assert capsys.readouterr().err == (
        "loss: replaced pairwise_cross_entropy by multi_similarity; its options tau, reduction are dropped\n"
    )


def test_a_grid_gives_a_row_for_each_combination(content, write):
    grid = {"method.k": [3, 5], "method.branches": ["dual", "visual"], "method.block_lr": [None]}
    content["rows"][1] = {"name": "new", "recipe": "bgformer", "grid": grid}
    rows = read_study(write(content)).rows[1:]
    assert [row.name for row in rows] == [
        f"new k={k} branches={branches} block_lr=null" for k in (3, 5) for branches in ("dual", "visual")
    ]
    assert [row.config.method.options["k"] for row in rows] == [3, 3, 5, 5]
    assert rows[1].config.method.options["branches"] == "visual"
    assert rows[0].config.method.options["block_lr"] is None


def test_the_reference_of_a_grid_goes_along_with_it(content, write):
    grid = {"data.label_noise": [0.0, 0.4]}
    content["reference"] = "plain label_noise=0.0"
    content["rows"] = [
        {"name": "plain", "recipe": "plain", "grid": grid},
        {"name": "new", "recipe": "bgformer", "grid": grid, "reference": "plain"},
    ]
    assert [row.reference for row in read_study(write(content)).rows] == [
        *2 * ["plain label_noise=0.0"],
        "plain label_noise=0.0",
        "plain label_noise=0.4",
    ]


def test_a_size_overrides_the_study_and_adds_to_what_is_common(content, write):
    content["sizes"] = {"small": {"seeds": [7], "common": {"train.lr": 0.5}}, "full": {"seeds": [0, 1, 2]}}
    path = write(content)
    small, full = read_study(path, "small"), read_study(path, "full")
    assert (small.name, full.name) == ("mine-small", "mine-full")
    assert small.rows[0].seeds == (7,)
    assert (small.rows[0].config.train.lr, small.rows[0].config.train.epochs) == (0.5, 1)
    assert full.rows[0].config.train.lr == 3e-4


def test_a_size_chooses_rows_of_the_study_by_name(content, write):
    content["sizes"] = {"small": {"rows": ["plain"]}, "wrong": {"rows": ["plane"]}}
    assert [row.name for row in read_study(write(content), "small").rows] == ["plain"]
    with pytest.raises(InputError, match=r"sizes.wrong.rows: no row 'plane'; .*plain"):
        read_study(write(content), "wrong")


def test_the_command_line_overrides_what_is_common_but_not_what_a_row_varies(content, write):
    study = read_study(write(content), overrides=["--train.epochs", "4", "--method.alpha=0.1"][:2])
    assert study.rows[0].config.train.epochs == 4
    content["rows"][0]["set"] = {"train.epochs": 3}
    study = read_study(write(content), overrides=["--train.epochs=4"])
    assert [row.config.train.epochs for row in study.rows] == [3, 4]


def changed(content, **changes):
    return {key: value for key, value in {**content, **changes}.items() if value is not None}


ROW = {"name": "x", "recipe": "bgformer"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": [1]}, ["'seed'", "'seeds'"]),
        ({"rows": "plain"}, ["rows", "a list"]),
        ({"rows": None}, ["'rows' is missing"]),
        ({"rows": []}, ["'rows' is missing or empty"]),
        ({"sizes": {1: {}}}, ["sizes", "expected text, found 1"]),
        ({"common": {"data.root": date(2026, 1, 2)}}, ["'plain'", "datetime.date(2026, 1, 2)", "quotes"]),
        ({"recipes": "nowhere"}, ["nowhere", "not a folder"]),
        ({"reference": "plian"}, ["'plian' is not a row", "'plain'"]),
        ({"reference": None}, ["'reference' is missing"]),
        ({"seeds": []}, ["seeds", "[]"]),
        ({"seeds": 0}, ["seeds", "found 0"]),
        ({"seeds": [1, 1]}, ["seeds", "[1, 1]"]),
        ({"seeds": [-1]}, ["seeds", "[-1]"]),
        ({"seeds": [True]}, ["seeds", "True"]),
        ({"common": {"train.epocs": 3}}, ["'plain'", "train.epocs", "'train.epochs'"]),
        ({"common": {"seed": 3}}, ["'seed'", "seeds"]),
        ({"common": {"train.epochs": "many"}}, ["train.epochs", "many"]),
        ({"sizes": {"small": {}}}, ["the study has sizes", "--size small"]),
        ({"rows": [{**ROW, "recipe": "bgfromer"}]}, ["'bgfromer'", "'bgformer'"]),
        ({"rows": [{"name": "x"}]}, ["'x'", "'recipe' is missing"]),
        ({"rows": [{**ROW, "sets": {}}]}, ["row 1", "sets", "'set'"]),
        ({"rows": [{"recipe": "plain"}]}, ["row 1", "no name"]),
        ({"rows": [{**ROW, "grid": {"method.k": 3}}]}, ["row 1", "grid.method.k", "a list"]),
        ({"rows": [{**ROW, "grid": {"method.k": []}}]}, ["row 1", "grid.method.k", "empty"]),
        ({"rows": [{**ROW, "set": {"method.kk": 3}}]}, ["'x'", "method.kk"]),
        ({"rows": [ROW, ROW]}, ["two rows are named 'x'"]),
        ({"rows": [ROW, {**ROW, "name": "X"}]}, ["'x' and 'X'", "folder"]),
        (
            {"rows": [{"name": "plain", "recipe": "plain"}, {**ROW, "seeds": [8, 9]}]},
            ["'x'", "[8, 9]", "common seed", "'plain'", "[0, 1]"],
        ),
    ],
)
def test_mistakes_give_one_line_that_names_them(content, write, changes, words):
    path = write(changed(content, **changes))
    with pytest.raises(InputError) as error:
        read_study(path)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    assert all(word in line for word in words), line


def test_an_unknown_size_is_named(content, write):
    with pytest.raises(InputError, match="no size 'smal'; it has no sizes"):
        read_study(write(content), "smal")
    with pytest.raises(InputError, match="no size 'smal'; did you mean 'small'"):
        read_study(write({**content, "sizes": {"small": {}}}), "smal")


def test_a_study_by_another_protocol_has_files_of_its_own(content, write):
    path = write(content)
    assert read_study(path, overrides=["--protocol.name", "literature"]).name == "mine-literature"
    assert read_study(path, overrides=["--protocol.name", "final"]).name == "mine"
