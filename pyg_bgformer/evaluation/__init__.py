"""Metrics of embeddings and labels: retrieval, clustering, leakage between the images of a batch."""

from pyg_bgformer.evaluation.batch_dependence import batch_leakage
from pyg_bgformer.evaluation.clustering import ClusteringResult, clustering
from pyg_bgformer.evaluation.evaluate import evaluate
from pyg_bgformer.evaluation.k_reciprocal import k_reciprocal_batches
from pyg_bgformer.evaluation.result import EvaluationResult
from pyg_bgformer.evaluation.retrieval import RetrievalResult, Similarity, retrieval

__all__ = [
    "ClusteringResult",
    "EvaluationResult",
    "RetrievalResult",
    "Similarity",
    "batch_leakage",
    "clustering",
    "evaluate",
    "k_reciprocal_batches",
    "retrieval",
]
