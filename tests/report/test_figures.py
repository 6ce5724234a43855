import pandas as pd
from PIL import Image

from pyg_bgformer.report.figures import draw_study, draw_tuning


def test_a_figure_is_drawn_and_grows_with_its_rows(runs, tmp_path):
    draw_study(runs, "Which?", tmp_path / "three.png")
    draw_study(runs[runs["row"] == "plain"], "Which?", tmp_path / "one.png")
    heights = [Image.open(tmp_path / f"{name}.png").height for name in ("one", "three")]
    assert heights[0] < heights[1]
    assert Image.open(tmp_path / "three.png").width == 1500


def test_the_curve_of_every_row_of_a_tuning_is_drawn(tmp_path):
    rows = [f"row {i}" for i in range(12)]
    trials = pd.DataFrame([{"row": row, "trial": t, "score": t / 9} for row in rows for t in range(3)])
    draw_tuning(trials, "embedding/map_at_r", "Which?", tmp_path / "tuning.png")
    assert Image.open(tmp_path / "tuning.png").width == 1200
