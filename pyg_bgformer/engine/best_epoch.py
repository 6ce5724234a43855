"""The protocol ``literature``: it keeps the epoch that is best on the test images."""

from pyg_bgformer.config.schema import ProtocolConfig
from pyg_bgformer.engine.state import TrainState

TEST_SCORE = "test_recall_at_1"
"""Key of a tested epoch's row in the history: the Recall@1 of the embeddings on the test images."""


def is_tested(protocol: ProtocolConfig, epoch: int, epochs: int) -> bool:
    """Returns whether the protocol tests after an epoch to choose the best one.

    Args:
        protocol: The recipe's protocol.
        epoch: Number of the epoch, from 1.
        epochs: Number of the last epoch.
    """
    return protocol.name == "literature" and (epoch % protocol.every == 0 or epoch == epochs)


def best_epoch(history: list[dict[str, float]]) -> int:
    """Returns the first epoch, counted from 1, with the highest test score.

    Args:
        history: One row for each epoch.

    Raises:
        ValueError: If no epoch was tested.
    """
    tested = [row for row in history if TEST_SCORE in row]
    return int(max(tested, key=lambda row: row[TEST_SCORE])["epoch"])


def keep_best(state: TrainState) -> None:
    """Copies the state of the method to ``state.best`` if the last epoch is the best one so far.

    Args:
        state: The training. The last row of its history has a test score.
    """
    if best_epoch(state.history) == int(state.history[-1]["epoch"]):
        state.best = {name: tensor.cpu().clone() for name, tensor in state.method.state_dict().items()}
