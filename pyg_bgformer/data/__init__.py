"""Datasets that are split by class, samplers, transforms, and a cache of decoded images."""

from pyg_bgformer.data.cache import ImageCache
from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets import DATASETS, dataset_options, load_dataset, read_dataset
from pyg_bgformer.data.images import ImageError
from pyg_bgformer.data.samplers import (
    SAMPLERS,
    ChunkSampler,
    HierarchicalSampler,
    PKSampler,
    PlannedSampler,
    RandomSampler,
    build_sampler,
    sampler_options,
)
from pyg_bgformer.data.samples import ImageSamples
from pyg_bgformer.data.transforms import eval_transform, train_transform
from pyg_bgformer.data.verification import SplitCount, Verification

__all__ = [
    "DATASETS",
    "SAMPLERS",
    "ChunkSampler",
    "HierarchicalSampler",
    "ImageCache",
    "ImageDataset",
    "ImageError",
    "ImageSamples",
    "PKSampler",
    "PlannedSampler",
    "RandomSampler",
    "SplitCount",
    "Verification",
    "build_sampler",
    "dataset_options",
    "eval_transform",
    "load_dataset",
    "read_dataset",
    "sampler_options",
    "train_transform",
]
