import io
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from pyg_bgformer.errors import InputError
from pyg_bgformer.report.tables import (
    against,
    comparison_latex,
    comparison_markdown,
    result_table,
    tuning_markdown,
    verdict,
)
from tests.results import a_result

RESULTS = Path(__file__).parents[2] / "experiments" / "results"


def scores(recall, **more):
    counts = {"queries": 40, "classes": 4}
    return {"recall_at_1": recall, "recall_at_10": 0.9, "map_at_r": 0.25, "nmi": 0.4, **counts, **more}


def run_result(**changes):
    values = {
        "untrained": {"backbone": scores(0.5), "embedding": scores(0.3)},
        "trained": {"backbone": scores(0.625), "embedding": scores(0.2, map_at_r=0.5)},
        "batch_dependence": 2e-6,
    }
    return a_result(**{**values, **changes})


def printed(result, **how):
    console = Console(file=io.StringIO(), width=160)
    console.print(result_table(result, **how))
    return console.file.getvalue()


def cells(text, label):
    """Scores in the line of the table that begins with a label."""
    line = next(line for line in text.splitlines()[1:] if line.split()[:1] == [label])
    return re.findall(r"[\d.]+(?: -> [\d.]+)?", line.partition(label)[2])


def test_the_verdict_comes_first_and_says_what_training_did_to_the_embedding():
    expected = "MAP@R on 4 unseen classes: 25.0 -> 50.0, R@1 30.0 -> 20.0 (embedding)"
    assert verdict(run_result()) == expected
    assert printed(run_result()).splitlines()[0].rstrip() == expected


def test_the_verdict_says_what_was_tested():
    seen, trained = (run_result(tested=tested) for tested in ("seen classes", "training images"))
    assert verdict(seen).startswith("MAP@R on 4 seen classes: 25.0 -> 50.0")
    assert "scores do not say how good the encoder is on new classes" in printed(seen)
    assert verdict(trained).startswith("MAP@R on the training images (4 classes): 25.0 -> 50.0")
    assert "scores do not say how good the encoder is on other images" in printed(trained)
    assert "scores do not say" not in printed(run_result())


def test_a_short_table_has_three_scores_and_a_verbose_one_has_all():
    short, long = printed(run_result()), printed(run_result(), verbose=True)
    assert cells(short, "R@1") == cells(long, "R@1") == ["50.0 -> 62.5", "30.0 -> 20.0"]
    assert cells(short, "MAP@R") == ["25.0 -> 25.0", "25.0 -> 50.0"]
    assert cells(short, "NMI") == ["40.0 -> 40.0", "40.0 -> 40.0"]
    assert "R@10" not in short
    assert cells(long, "R@10") == ["90.0 -> 90.0", "90.0 -> 90.0"]


def test_it_says_what_was_tested_and_how():
    text = printed(run_result())
    assert "digits, method plain, seed 0: 40 queries, 16 px; conv4, weights random, 8 dimensions; cpu" in text
    assert "protocol final: tested once, after the last epoch" in text
    assert "batch independence: OK (largest relative change 2.0e-06)" in text
    assert "not comparable" not in text
    assert "batch independence: FAILED (largest relative change 5.0e-01)" in printed(
        run_result(batch_dependence=0.5)
    )


@pytest.mark.parametrize(
    ("mark", "words"), [("dataset_partial", "partial copy"), ("dataset_cropped", "cut to annotated boxes")]
)
def test_what_is_not_comparable_is_marked(mark, words):
    assert re.search(f"{words}.*: not comparable", printed(run_result(origin={mark: True})))


def test_scores_that_were_not_measured_have_no_line():
    states = {
        state: {
            feature: {"recall_at_1": 0.5, "map_at_r": 0.5, "queries": 4, "classes": 2} for feature in features
        }
        for state, features in (("untrained", ["embedding"]), ("trained", ["embedding"]))
    }
    assert "NMI" not in printed(run_result(**states))


def test_refined_features_have_no_untrained_score_and_are_marked():
    trained = {**run_result().trained, "refined": scores(0.75)}
    text = printed(run_result(trained=trained, refined_features=["refined"]))
    assert cells(text, "R@1") == ["50.0 -> 62.5", "30.0 -> 20.0", "75.0"]
    assert "refined: test images refine each other; a saved model does not do this" in text


def test_the_best_test_epoch_stands_beside_the_last_one_and_the_gap_is_told():
    last = {"backbone": scores(0.125), "embedding": scores(0.125)}
    text = printed(run_result(last=last, trained_epoch=2, epochs=9))
    assert cells(text, "R@1") == ["50.0 -> 62.5", "12.5", "30.0 -> 20.0", "12.5"]
    assert "epoch 2 of 9, chosen on the test images; the R@1 of the embedding differs" in text


def test_rows_keep_their_order_and_have_means_intervals_differences_and_p_values(runs):
    lines = comparison_markdown(runs, "Which?").splitlines()
    assert lines[0] == "# Which?"
    assert lines[2] == "| feature | row | seeds | R@1 | R@1 difference | MAP@R | MAP@R difference |"
    assert [line.split(" | ")[1] for line in lines[4:8]] == ["untrained encoder", "plain", "k=5_&", "new"]
    assert lines[5].startswith("| backbone | plain | 3 | 55.0 ± 12.4 |  |")
    # gains of 11, 10 and 11 points
    assert "| 65.7 ± 11.2 | **+10.7 ± 1.4** (p < 0.001) |" in lines[6]
    # of -10, 10 and -45: their deviation is 27.84, Student's t for three 4.303
    assert "| 40.0 ± 74.5 | -15.0 ± 69.2 (p = 0.449) |" in lines[7]


def test_rows_with_references_of_their_own_name_them(runs):
    runs.loc[runs["row"] == "new", "reference"] = "k=5_&"
    lines = comparison_markdown(runs, "Which?").splitlines()
    assert lines[2].startswith("| feature | row | against | seeds |")
    assert lines[5].startswith("| backbone | plain |  | 3 |")
    assert lines[7].startswith("| backbone | new | k=5_& | 3 |")
    assert "from the row named under 'against', paired by seed" in lines[-3]


def test_a_row_may_not_be_there_yet(runs):
    text = comparison_markdown(runs[runs["row"] != "plain"], "Which?")
    assert "| embedding | new | 3 | 40.0 ± 74.5 |  |" in text


def test_all_runs_can_be_compared_with_one_row_which_comes_first(runs):
    lines = comparison_markdown(against(runs.drop(columns="reference"), "new")).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:6]] == ["untrained encoder", "new", "k=5_&", "plain"]
    with pytest.raises(InputError, match="no run of 'triplet'; found k=5_&, new, plain"):
        against(runs, "triplet")


def test_latex_says_the_same_with_its_signs_escaped(runs):
    text = comparison_latex(runs, "Which?")
    assert r"backbone & k=5\_\& & 3 & 65.7 $\pm$ 11.2 & \textbf{+10.7 $\pm$ 1.4} (p $<$ 0.001) &" in text
    assert r"Mean over seeds in \%," in text
    assert "seeds: 0, 1, 2" in text
    assert not re.search(r"(?<!\\)[_&%#]", text.replace("{%", "").partition(r"\toprule")[0])
    columns = re.search(r"\\begin\{tabular\}\{(l+)\}", text)[1]
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(columns)}


def test_the_page_of_a_tuning_has_the_best_trial_of_each_row_and_what_was_searched():
    trials = pd.DataFrame(
        [("a", 0, 0.5, ""), ("a", 1, 0.5, ""), ("b", 0, 0.1, ""), ("b", 1, 0.0, "nan"), ("b", 2, 0.7, "")],
        columns=["row", "trial", "score", "failed"],
    )
    settings = pd.DataFrame([("b", "method.k", "1 to 9", 3, 5)], columns=list("abcde"))
    lines = tuning_markdown("Which?", "Every row: 3 trials.", trials, settings).splitlines()
    assert lines[:3] == ["# Which?: tuning", "", "Every row: 3 trials."]
    assert lines[6:8] == ["| a | 50.0 | 50.0 | 0 | 0 |", "| b | 10.0 | 70.0 | 2 | 1 |"]
    assert lines[-1] == "| b | method.k | 1 to 9 | 3 | 5 |"


PAGES = [page for page in sorted(RESULTS.glob("*.md")) if not page.stem.endswith("-tuning")]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_tables_of_studies_are_those_of_their_runs(page):
    text = page.read_text(encoding="utf-8")
    title = text.partition("\n")[0].removeprefix("# ")
    runs = pd.read_csv(page.with_suffix(".csv"))
    assert text == comparison_markdown(runs, title) + "\n"
    assert page.with_suffix(".tex").read_text(encoding="utf-8") == comparison_latex(runs, title) + "\n"
    assert page.with_suffix(".png").exists()
