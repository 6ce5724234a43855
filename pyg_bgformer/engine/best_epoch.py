"""The protocol of the literature: the epoch that is best on the test images."""

from pyg_bgformer.config.schema import Config
from pyg_bgformer.engine.state import TrainState

TEST_SCORE = "test_recall_at_1"
"""Of the embeddings after an epoch, in its row of the history."""


def is_tested(config: Config, epoch: int) -> bool:
    """Whether the protocol tests after this epoch, counted from 1, to choose by it."""
    protocol = config.protocol
    return protocol.name == "literature" and (epoch % protocol.every == 0 or epoch == config.train.epochs)


def best_epoch(history: list[dict[str, float]]) -> int:
    """The first epoch, counted from 1, with the highest test score.

    Raises:
        ValueError: No epoch was tested.
    """
    tested = [row for row in history if TEST_SCORE in row]
    return int(max(tested, key=lambda row: row[TEST_SCORE])["epoch"])


def keep_best(state: TrainState) -> None:
    """Keeps the method as it is if the epoch that was just tested is the best so far."""
    if best_epoch(state.history) == int(state.history[-1]["epoch"]):
        state.best = {name: tensor.cpu().clone() for name, tensor in state.method.state_dict().items()}
