"""Sends the scores, the settings and a gallery of a finished run to TensorBoard and Weights & Biases."""

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from pyg_bgformer.engine.wandb_logger import WandbLogger
from pyg_bgformer.report.embedded_images import EmbeddedImages
from pyg_bgformer.report.gallery import GalleryRow, choose_queries, gallery_image
from pyg_bgformer.report.page_pictures import NEIGHBOURS
from pyg_bgformer.runs.diff import dotted
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result


def log_result(folder: RunFolder, images: EmbeddedImages | None = None) -> None:
    """Adds test scores, settings and a gallery of queries to the TensorBoard events of a run.

    If the recipe has ``report.wandb``, scores and gallery are also sent to Weights & Biases.

    Args:
        folder: A finished run's folder.
        images: The test images of the run. Without them there is no gallery.

    Raises:
        InputError: If the run is not finished, or Weights & Biases does not start.
        RunError: If the events cannot be written.
    """
    result = read_result(folder)
    scores = {
        f"test/{feature}/{name}": value
        for feature, values in result.trained.items()
        for name, value in values.items()
    }
    settings = {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in dotted(result.config)
    }
    with folder.errors(folder.events), SummaryWriter(str(folder.events)) as writer:
        for name, value in scores.items():
            writer.add_scalar(name, value, result.trained_epoch)
        headline = {f"hparam/{key}": result.trained["embedding"][key] for key in ("recall_at_1", "map_at_r")}
        writer.add_hparams(settings, headline, run_name=".")
        picture = None if images is None else gallery(images)
        if picture is not None:
            writer.add_image("test/gallery", picture, result.trained_epoch, dataformats="HWC")
    if (project := result.config["report"]["wandb"]) is not None:
        logger = WandbLogger(project, folder)
        logger.log_metrics(scores)
        if picture is not None:
            logger.log_image("test/gallery", picture)
        logger.finalize("success")


def gallery(images: EmbeddedImages) -> np.ndarray:
    """Returns a picture ``(H, W, 3)`` uint8 of the worst, some random and the best queries with their neighbours.

    Args:
        images: The test images.
    """
    found = images.retrieve(NEIGHBOURS)
    choice = choose_queries(found.scores.average_precision, found.scores.first_rank, images.labels)
    rows = []
    for query in (*choice.worst, *choice.random, *choice.best):
        items = found.ids[query].tolist()
        right = (images.item_labels[items] == images.labels[query]).tolist()
        pictures = [images.item_picture(item) for item in items]
        rows.append(GalleryRow(images.query_picture(query), list(zip(pictures, right, strict=True))))
    return np.asarray(gallery_image(rows))
