"""Datasets split by class, the sampler and transforms of training, and a cache of decoded images."""

from pyg_bgformer.data.cache import ImageCache
from pyg_bgformer.data.chunk_sampler import ChunkSampler
from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.hierarchical_sampler import HierarchicalSampler
from pyg_bgformer.data.images import ImageError
from pyg_bgformer.data.random_sampler import RandomSampler
from pyg_bgformer.data.registry import DATASETS, load_dataset, read_dataset
from pyg_bgformer.data.samplers import PKSampler
from pyg_bgformer.data.samples import ImageSamples
from pyg_bgformer.data.transforms import eval_transform, train_transform
from pyg_bgformer.data.verification import SplitCount, Verification

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
