import shutil

import pytest
from PIL import Image

from pyg_bgformer.cli.main import main
from pyg_bgformer.runs.folder import RunFolder
from tests.report.finished import finished

KEPT = ["--train.epochs=1", "--train.keep_checkpoint=true"]


@pytest.mark.parametrize("method", ["bgformer", "dybgr", "batchformer", "intra_batch", "gca_hng"])
def test_graph_draws_a_batch_of_every_method_with_a_graph(method, tmp_path, capsys):
    losses = {"intra_batch": "label_smoothed_cross_entropy", "gca_hng": "n_pair"}
    loss = losses.get(method, "pairwise_cross_entropy")
    run = finished(tmp_path, f"--method.name={method}", f"--loss.name={loss}", *KEPT)
    assert main(["graph", str(run), "--batch", "2"]) == 0
    svg, png = run.path / "graph-batch2.svg", run.path / "graph-batch2.png"
    assert capsys.readouterr().out == f"{svg}\n{png}\n"
    text = svg.read_text(encoding="utf-8")
    assert text.count("<image") >= 20
    assert f"digits, {method}: batch 2 of the first epoch" in text
    assert min(Image.open(png).size) > 1000


def test_mistakes_are_one_line(tmp_path, capsys):
    run = finished(tmp_path, "--train.epochs=1")
    unfinished = RunFolder(shutil.copytree(run.path, tmp_path / "unfinished"))
    unfinished.result.unlink()
    for arguments, words in [
        ([str(run)], "method plain has no batch graph"),
        ([str(run), "--batch", "3"], "batch: found 3, expected 0 to 2"),
        ([str(run), "--batch", "one"], "invalid int value"),
        ([str(unfinished)], "is not finished; resume it with: pyg-bgformer run --resume"),
        ([str(tmp_path / "nowhere")], "is not the folder of a run"),
    ]:
        assert main(["graph", *arguments]) == 2
        printed = capsys.readouterr()
        assert words in printed.err
        assert printed.err.count("\n") == 1


def test_files_that_cannot_be_written(tmp_path, capsys):
    run = finished(tmp_path, "--method.name=bgformer", "--train.epochs=1")
    assert main(["graph", str(run), "--out", str(tmp_path / "no" / "graph")]) == 2
    assert "graph.svg cannot be written: No such file or directory" in capsys.readouterr().err
