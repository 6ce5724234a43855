"""A folder of tiny photos, and what is needed to train on it in a second."""

import numpy as np
from PIL import Image

QUICK = (
    *(
        "--encoder.name",
        "conv4",
        "--encoder.embedding_dim",
        "8",
        "--sampler.samples",
        "2",
        "--train.epochs",
        "1",
    ),
    *("--data.image_size", "16", "--data.resize", "18", "--data.workers", "0", "--report.page", "false"),
    *("--evaluation.recall_at", "[1]", "--evaluation.clustering", "false"),
)
"""Settings of a short training of a small encoder."""


def picture(seed, mode="RGB"):
    """An image in which a class of ten seeds shares its colours."""
    chance = np.random.default_rng(seed)
    colour = np.random.default_rng(seed // 10).integers(0, 200, 3)
    return Image.fromarray((colour + chance.integers(0, 56, (24, 20, 3))).astype(np.uint8)).convert(mode)


def write_photos(root, names, images=4):
    """A folder with a folder of images for each name."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for image in range(images):
            picture(10 * number + image, "L" if image == 3 else "RGB").save(root / name / f"{image}.png")
    return root
