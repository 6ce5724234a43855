"""Metrics of embeddings: retrieval, clustering and dependence on the batch. Exact nearest-neighbour search."""

from pyg_bgformer.evaluation.batch_dependence import batch_dependence
from pyg_bgformer.evaluation.clustering import ClusteringResult, clustering
from pyg_bgformer.evaluation.evaluate import evaluate
from pyg_bgformer.evaluation.k_reciprocal import k_reciprocal_batches
from pyg_bgformer.evaluation.result import EvaluationResult
from pyg_bgformer.evaluation.retrieval import RetrievalResult, retrieval
from pyg_bgformer.evaluation.search import Neighbours, SimilarityFunction, top_k

__all__ = [
    "ClusteringResult",
    "EvaluationResult",
    "Neighbours",
    "RetrievalResult",
    "SimilarityFunction",
    "batch_dependence",
    "clustering",
    "evaluate",
    "k_reciprocal_batches",
    "retrieval",
    "top_k",
]
