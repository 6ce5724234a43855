"""The protocol of the literature: the epoch that is best on the test images."""

from pyg_bgformer.config.schema import ProtocolConfig
from pyg_bgformer.engine.state import TrainState

TEST_SCORE = "test_recall_at_1"
"""Of the embeddings after an epoch, in its row of the history."""


def is_tested(protocol: ProtocolConfig, epoch: int, epochs: int) -> bool:
    """Returns whether the protocol evaluates after an epoch, to choose by it.

    Args:
        protocol: The recipe's protocol.
        epoch: Number of the epoch, from 1.
        epochs: Number of the last epoch.
    """
    return protocol.name == "literature" and (epoch % protocol.every == 0 or epoch == epochs)


def best_epoch(history: list[dict[str, float]]) -> int:
    """Returns the first epoch, counted from 1, with the highest test score.

    Args:
        history: One row an epoch.

    Raises:
        ValueError: No epoch was tested.
    """
    tested = [row for row in history if TEST_SCORE in row]
    return int(max(tested, key=lambda row: row[TEST_SCORE])["epoch"])


def keep_best(state: TrainState) -> None:
    """Keeps the method as it is if the epoch that was just tested is the best so far.

    Args:
        state: The training, whose last row of the history has a test score.
    """
    if best_epoch(state.history) == int(state.history[-1]["epoch"]):
        state.best = {name: tensor.cpu().clone() for name, tensor in state.method.state_dict().items()}
