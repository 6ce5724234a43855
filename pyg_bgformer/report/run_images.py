"""The images of a finished run: test images with their embeddings, and training batches with their graph."""

from typing import NamedTuple

import torch
from torch import Tensor

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import Config
from pyg_bgformer.data import ImageDataset
from pyg_bgformer.data.features import view_seeds
from pyg_bgformer.engine.evaluate import extract_all
from pyg_bgformer.engine.setup import (
    build_dataset,
    build_fabric,
    build_sampler,
    build_test_loaders,
    protocol_part,
    test_splits,
    train_samples,
    training_part,
)
from pyg_bgformer.engine.trained import kept_embeddings, load_trained
from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.methods import Method
from pyg_bgformer.nn.ops import Edges
from pyg_bgformer.report.embedded_images import EmbeddedImages
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result


class TrainingBatch(NamedTuple):
    """A batch as the training saw it, and its graph as the trained method sees it.

    Attributes:
        images: ``(N, 3, S, S)``, augmented, in 0..1.
        labels: ``(N,)``.
        edges: From :meth:`~pyg_bgformer.methods.Method.edges`; empty for a method without a graph.
    """

    images: Tensor
    labels: Tensor
    edges: Edges


class TrainedRun:
    """A finished run with its data and its trained method.

    Args:
        folder: The run's folder.

    Attributes:
        folder: The run's folder.
        config: The run's recipe.
        part: The dataset with the splits of the run's protocol.
        method: The trained method, in eval mode.
        class_names: By label.

    Raises:
        InputError: The run is not finished, its dataset is not there or has changed since, or a file is damaged.
    """

    def __init__(self, folder: RunFolder) -> None:
        result = read_result(folder)
        self.folder = folder
        self.config: Config = read_config(["--config", str(folder.recipe)])
        dataset = build_dataset(self.config)
        if dataset.manifest_hash != result.provenance.dataset_manifest_sha256:
            raise InputError(
                f"dataset {dataset.name} ({dataset.where}) has changed since the run: its images or labels differ"
            )
        self.part: ImageDataset = protocol_part(self.config, dataset)
        self.method: Method = load_trained(self.config, folder, self.part.counts()["train"].classes)
        names = self.part.table.drop_duplicates("label")
        self.class_names: dict[int, str] = dict(
            zip(names["label"].tolist(), names["original_class"], strict=True)
        )

    def embedded_images(self) -> EmbeddedImages:
        """Returns the test images, or queries and gallery, with their embeddings by the trained encoder.

        Embeddings that the run kept are read; others are computed.
        """
        embeddings = kept_embeddings(self.folder)
        if embeddings is None:
            fabric = build_fabric(self.config)
            loaders = build_test_loaders(self.config, self.part, self.method.encoder, cache=None)
            extracted = extract_all(fabric, self.method.to(fabric.device), loaders)
            embeddings = [split.features["embedding"] for split in extracted]
        queries, *gallery = embeddings
        rows = [self.part.rows(split) for split in test_splits(self.part)]
        labels = self.part.table["label"].to_numpy()
        geometry = self.method.geometry
        return EmbeddedImages(
            queries,
            labels[rows[0]],
            rows[0],
            self.class_names,
            self.part.image,
            items=gallery[0] if gallery else None,
            gallery_labels=labels[rows[1]] if gallery else None,
            gallery_rows=rows[1] if gallery else None,
            similarity=None if isinstance(geometry, Sphere) else geometry.similarity,
        )

    def training_batch(self, number: int) -> TrainingBatch:
        """Returns a batch of the first epoch.

        Args:
            number: Counted from 0.

        Raises:
            InputError: The epoch has no such batch.
        """
        config, encoder = self.config, self.method.encoder
        seen = training_part(config, self.part)
        plan = build_sampler(config, seen).plan(0)
        if not 0 <= number < len(plan):
            raise InputError(
                f"batch {number}: expected 0 to {len(plan) - 1}, the batches of this run's first epoch"
            )
        samples = train_samples(config, seen, encoder, cache=None)
        draws = plan[number]
        if (views := config.data.views) is not None:  # a frozen encoder's images have a few views each
            rows = [int(samples.rows[position]) for position, _ in draws]
            seeds = [
                view_seeds(row, views, config.seed)[draw[1] % views]
                for row, draw in zip(rows, draws, strict=True)
            ]
            draws = [(position, seed) for (position, _), seed in zip(draws, seeds, strict=True)]
        drawn = samples.__getitems__(draws)
        images = torch.stack([image for image, _, _ in drawn])
        labels = torch.tensor([label for _, label, _ in drawn])
        device = next(self.method.parameters()).device
        with torch.no_grad():
            edges = self.method.edges(encoder.features(images.to(device)), labels.to(device))
        mean, std = (torch.tensor(values)[:, None, None] for values in (encoder.mean, encoder.std))
        return TrainingBatch((images * std + mean).clamp(0, 1), labels, edges)
