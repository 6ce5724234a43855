from pyg_bgformer.report.curves import line_chart


def test_a_chart_has_a_line_for_each_series_without_its_gaps():
    figure = line_chart([1, 2, 3], {"loss": [3.0, 2.0, 1.0], "score": [float("nan"), 0.5, 0.6]}, "t", "epoch")
    panel = figure.axes[0]
    assert [line.get_xdata().tolist() for line in panel.lines] == [[1, 2, 3], [2, 3]]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["loss", "score"]


def test_places_may_have_names_and_lines_a_dashed_one_before_them():
    before = {"embedding": [40.0, 50.0]}
    figure = line_chart(
        [0, 1], {"embedding": [50.0, 60.0]}, "Recall@K", "K", before=before, x_names=["1", "8"]
    )
    dashed, line = figure.axes[0].lines
    assert dashed.get_linestyle() == "--"
    assert dashed.get_color() == line.get_color()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "8"]
    assert figure.axes[0].get_legend() is None
