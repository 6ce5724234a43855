"""The result of an evaluation."""

from dataclasses import dataclass

from pyg_bgformer.evaluation.clustering import ClusteringResult
from pyg_bgformer.evaluation.retrieval import RetrievalResult
from pyg_bgformer.evaluation.search import Neighbours


@dataclass(frozen=True)
class EvaluationResult:
    """Retrieval and clustering scores of a set of embeddings. All scores are fractions, not percent.

    Attributes:
        retrieval: Recall@K, MAP@R, R-precision, counts and the values of every query.
        clustering: NMI, AMI, ARI, pair F1 and the cluster of every item; ``None`` if not requested.
        neighbours: The retrieved items of every query; ``None`` if not requested.
    """

    retrieval: RetrievalResult
    clustering: ClusteringResult | None
    neighbours: Neighbours | None = None

    @property
    def recall(self) -> dict[int, float]:
        """Recall@K by K."""
        return self.retrieval.recall

    @property
    def map_at_r(self) -> float:
        """Mean average precision at R."""
        return self.retrieval.map_at_r

    @property
    def r_precision(self) -> float:
        """Mean R-precision."""
        return self.retrieval.r_precision

    @property
    def nmi(self) -> float | None:
        """Normalised mutual information, ``None`` without clustering."""
        return self.clustering.nmi if self.clustering else None

    @property
    def ami(self) -> float | None:
        """Adjusted mutual information, ``None`` without clustering."""
        return self.clustering.ami if self.clustering else None

    @property
    def ari(self) -> float | None:
        """Adjusted Rand index, ``None`` without clustering."""
        return self.clustering.ari if self.clustering else None

    @property
    def pair_f1(self) -> float | None:
        """Pair-counting F1, ``None`` without clustering."""
        return self.clustering.pair_f1 if self.clustering else None

    def as_dict(self) -> dict[str, float | int]:
        """Returns all scores and counts as plain numbers by name. Those of clustering are there if it was run."""
        return self.retrieval.as_dict() | (self.clustering.as_dict() if self.clustering else {})
