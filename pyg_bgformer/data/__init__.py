"""Datasets split by class, the sampler and transforms of training, and a cache of decoded images."""

from pyg_bgformer.data.cache import ImageCache
from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.registry import DATASETS, load_dataset, read_dataset
from pyg_bgformer.data.datasets.verification import SplitCount, Verification
from pyg_bgformer.data.images import ImageError
from pyg_bgformer.data.samplers.chunk_sampler import ChunkSampler
from pyg_bgformer.data.samplers.hierarchical_sampler import HierarchicalSampler
from pyg_bgformer.data.samplers.pk_sampler import PKSampler
from pyg_bgformer.data.samplers.random_sampler import RandomSampler
from pyg_bgformer.data.samples import ImageSamples
from pyg_bgformer.data.transforms import eval_transform, train_transform

__all__ = [
    "DATASETS",
    "ChunkSampler",
    "HierarchicalSampler",
    "ImageCache",
    "ImageDataset",
    "ImageError",
    "ImageSamples",
    "PKSampler",
    "RandomSampler",
    "SplitCount",
    "Verification",
    "eval_transform",
    "load_dataset",
    "read_dataset",
    "train_transform",
]
