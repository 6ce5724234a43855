"""A run as a finished one, without running it."""

from pyg_bgformer.runs.result import write_result
from tests.results import a_result


def finish(run, recall=0.5, **changes):
    """Gives a run a folder as a finished one has it."""
    run.prepare()
    result = a_result(
        recall,
        config=run.config.as_dict(),
        protocol=str(run.config.protocol),
        seed=run.config.seed,
        epochs=run.config.train.epochs,
        **changes,
    )
    write_result(run.folder, result)
    run.folder.metrics.write_text("epoch,loss,feature_scale,seconds\n1,2.0,1.0,3.5\n2,1.0,0.5,3.5\n")
