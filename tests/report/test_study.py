import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pyg_bgformer.report.figures import draw_study
from pyg_bgformer.report.study_table import study_latex, study_markdown

RESULTS = Path(__file__).parents[2] / "experiments" / "results"


@pytest.fixture
def runs():
    recalls = {"plain": (0.50, 0.60, 0.55), "k=5_&": (0.61, 0.70, 0.66), "new": (0.40, 0.70, 0.10)}
    return pd.DataFrame(
        [
            {
                "dataset": "digits",
                "partial": name == "new",
                "cropped": False,
                "method": name,
                "reference": "plain",
                "seed": seed,
                "protocol": "final",
                "epochs": 3,
                "image_size": 28,
                "embedding_dim": 64,
                "weights": "random",
                "commit": "0123456789abcdef",
                "device": "cpu (x86_64)",
                "feature": feature,
                "encoder": encoder,
                "recall_at_1": recall if encoder == "trained" else 0.1,
                "map_at_r": recall / 2,
            }
            for name, values in recalls.items()
            for seed, recall in enumerate(values)
            for feature in ("backbone", "embedding")
            for encoder in ("untrained", "trained")
        ]
    )


def test_rows_keep_their_order_and_have_means_intervals_differences_and_p_values(runs):
    lines = study_markdown(runs, "Which?").splitlines()
    assert lines[0] == "# Which?"
    assert lines[2] == "| feature | row | seeds | R@1 | difference | MAP@R | difference |"
    assert [line.split(" | ")[1] for line in lines[4:8]] == ["untrained encoder", "plain", "k=5_&", "new"]
    assert lines[5].startswith("| backbone | plain | 3 | 55.0 ± 12.4 |  |")
    # gains of 11, 10 and 11 points
    assert "| 65.7 ± 11.2 | **+10.7 ± 1.4** (p < 0.001) |" in lines[6]
    # of -10, 10 and -45: their deviation is 27.84, Student's t for three 4.303
    assert "| 40.0 ± 74.5 | -15.0 ± 69.2 (p = 0.449) |" in lines[7]


def test_a_table_states_what_it_depends_on(runs):
    text = study_markdown(runs, "Which?")
    for words in (
        "Data: digits (whole), digits (partial copy)",
        "protocol: final",
        "seeds: 0, 1, 2",
        "weights: random",
        "embedding dimension: 64",
        "image size: 28 px",
        "device: cpu (x86_64)",
        "commit: 0123456789ab;",
        "from 'plain', paired by seed",
        "rows that are compared (2)",
    ):
        assert words in f"{text};".replace(".;", ";"), words


def test_rows_with_references_of_their_own_name_them(runs):
    runs.loc[runs["method"] == "new", "reference"] = "k=5_&"
    lines = study_markdown(runs, "Which?").splitlines()
    assert lines[2].startswith("| feature | row | against | seeds |")
    assert lines[5].startswith("| backbone | plain |  | 3 |")
    assert lines[7].startswith("| backbone | new | k=5_& | 3 |")


def test_a_row_may_not_be_there_yet(runs):
    text = study_markdown(runs[runs["method"] != "plain"], "Which?")
    assert "| embedding | new | 3 | 40.0 ± 74.5 |  |" in text


def test_latex_says_the_same_with_its_signs_escaped(runs):
    text = study_latex(runs, "Which?")
    assert r"backbone & k=5\_\& & 3 & 65.7 $\pm$ 11.2 & \textbf{+10.7 $\pm$ 1.4} (p $<$ 0.001) &" in text
    assert r"Mean over seeds in \%," in text
    assert "seeds: 0, 1, 2" in text
    assert not re.search(r"(?<!\\)[_&%#](?![^\n]*\\\\)", text.replace("{%", "").partition(r"\toprule")[0])
    columns = re.search(r"\\begin\{tabular\}\{(l+)\}", text)[1]
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(columns)}


def test_a_figure_is_drawn_and_grows_with_its_rows(runs, tmp_path):
    draw_study(runs, "Which?", tmp_path / "three.png")
    draw_study(runs[runs["method"] == "plain"], "Which?", tmp_path / "one.png")
    heights = [Image.open(tmp_path / f"{name}.png").height for name in ("one", "three")]
    assert heights[0] < heights[1]
    assert Image.open(tmp_path / "three.png").width == 1500


@pytest.mark.parametrize("page", sorted(RESULTS.glob("*.md")), ids=lambda path: path.stem)
def test_tables_of_studies_are_those_of_their_runs(page):
    text = page.read_text(encoding="utf-8")
    title = text.partition("\n")[0].removeprefix("# ")
    runs = pd.read_csv(page.with_suffix(".csv"))
    assert text == study_markdown(runs, title) + "\n"
    assert page.with_suffix(".tex").read_text(encoding="utf-8") == study_latex(runs, title) + "\n"
    assert page.with_suffix(".png").exists()
