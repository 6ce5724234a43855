import functools
import shutil

import pytest
from PIL import Image

from pyg_bgformer.cli.main import main
from pyg_bgformer.runs.folder import RunFolder
from tests.report.finished import finished

pytestmark = pytest.mark.usefixtures("few_digits")

SHORT = ["--train.epochs=1", "--train.keep_checkpoint=true", "--evaluation.clustering=false"]


@pytest.fixture(scope="module")
def run_of(few_digits, tmp_path_factory):
    """Returns the folder of a run of a method; tests leave it as it is."""

    @functools.cache
    def run(method):
        losses = {"intra_batch": "label_smoothed_cross_entropy", "gca_hng": "n_pair"}
        loss = losses.get(method, "pairwise_cross_entropy")
        return finished(
            tmp_path_factory.mktemp(method), f"--method.name={method}", f"--loss.name={loss}", *SHORT
        )

    return run


@pytest.mark.parametrize("method", ["bgformer", "dybgr", "batchformer", "intra_batch", "gca_hng"])
def test_graph_draws_a_batch_of_every_method_with_a_graph(method, run_of, capsys):
    run = run_of(method)
    assert main(["graph", str(run), "--batch", "2"]) == 0
    svg, png = run.path / "graph-batch2.svg", run.path / "graph-batch2.png"
    assert capsys.readouterr().out == f"{svg}\n{png}\n"
    text = svg.read_text(encoding="utf-8")
    assert text.count("<image") >= 20
    assert f"digits, {method}: batch 2 of the first epoch" in text
    assert min(Image.open(png).size) > 1000


def test_mistakes_are_one_line(run_of, tmp_path, capsys):
    run = run_of("plain")
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


def test_files_that_cannot_be_written(run_of, tmp_path, capsys):
    run = run_of("bgformer")
    assert main(["graph", str(run), "--out", str(tmp_path / "no" / "graph")]) == 2
    assert "graph.svg cannot be written: No such file or directory" in capsys.readouterr().err
