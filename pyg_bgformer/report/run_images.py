"""The images of a finished run: test images with their embeddings, and training batches with their graph."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import Config
from pyg_bgformer.data import ImageDataset
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.encoders import Encoder
from pyg_bgformer.engine.evaluate import extract_all
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.loaders import build_test_loaders, test_splits
from pyg_bgformer.engine.setup import build_dataset, protocol_part
from pyg_bgformer.engine.trained import (
    batch_edges,
    kept_embeddings,
    kept_graph,
    load_trained,
    training_images,
)
from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import GEOMETRIES, Sphere
from pyg_bgformer.methods import Method
from pyg_bgformer.nn.ops import Edges
from pyg_bgformer.report.embedded_images import EmbeddedImages
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result


class TrainingBatch(NamedTuple):
    """A training batch, and its graph as the trained method sees it.

    Attributes:
        images: ``(N, 3, S, S)``, augmented, from 0 to 1.
        labels: ``(N,)``, classes.
        edges: The graph from :meth:`~pyg_bgformer.methods.Method.edges`. Empty if the method has no graph.
    """

    images: Tensor
    labels: Tensor
    edges: Edges


class TrainedRun:
    """A finished run with its data and its trained encoder.

    Args:
        folder: The run's folder.

    Attributes:
        folder: The run's folder.
        config: The run's recipe.
        part: The dataset with the splits of the run's protocol.
        encoder: The trained encoder, in evaluation mode.
        class_names: Names of the classes by label.

    Raises:
        InputError: If the run is not finished, its dataset is missing or has changed, or a file is damaged.
    """

    def __init__(self, folder: RunFolder) -> None:
        result = read_result(folder)
        self.folder = folder
        self.config: Config = read_config(["--config", str(folder.recipe)])
        dataset = build_dataset(self.config.data)
        if dataset.manifest_hash != result.provenance.dataset_manifest_sha256:
            raise InputError(
                f"dataset {dataset.name} ({dataset.where}) has changed since the run: its images or labels differ"
            )
        self.part: ImageDataset = protocol_part(self.config.protocol, dataset)
        self.encoder: Encoder = EmbeddingModel.from_pretrained(folder.path).encoder
        names = self.part.table.drop_duplicates("label")
        self.class_names: dict[int, str] = dict(
            zip(names["label"].tolist(), names["original_class"], strict=True)
        )

    def embedded_images(self) -> EmbeddedImages:
        """Returns the test images, or queries and gallery, with their embeddings by the trained encoder.

        If the run kept the embeddings, they are read. Otherwise they are computed.
        """
        geometry = GEOMETRIES.find(self.config.geometry.name)(**self.config.geometry.options)
        embeddings = kept_embeddings(self.folder)
        if embeddings is None:
            fabric = build_fabric(self.config.train, alone=True)
            loaders = build_test_loaders(
                self.config.data,
                self.config.evaluation.batch_size,
                self.part,
                self.encoder,
                cache=None,
                device=fabric.device,
            )
            method = Method(self.encoder.to(fabric.device), nn.Identity(), geometry, 0)
            extracted = extract_all(fabric, method, loaders)
            embeddings = [split.features["embedding"] for split in extracted]
        queries, *gallery = embeddings
        rows = [self.part.rows(split) for split in test_splits(self.part)]
        labels = self.part.table["label"].to_numpy()
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
        """Returns a training batch of the first epoch.

        Args:
            number: Number of the batch, from 0.

        Raises:
            InputError: If the epoch has no such batch, or the trained method is needed and the run did not keep it.
        """
        images, labels = training_images(self.config, self.part, self.encoder, number)
        edges = kept_graph(self.folder) if number == 0 else None
        if edges is None:
            method = load_trained(self.config, self.folder, self.part.counts()["train"].classes)
            edges = batch_edges(method, images, labels)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.encoder.mean, self.encoder.std))
        return TrainingBatch((images * std + mean).clamp(0, 1), labels, edges)
