"""Small generated photos in a folder, and models that embed them."""

import numpy as np
import torch
from PIL import Image

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.encoders import build_encoder


def write_photos(folder, count=12, seed=0):
    """Writes blurred noise in the colours of three classes, a folder each, and returns the paths."""
    chance = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        name = ("red", "green", "blue")[number % 3]
        coarse = chance.integers(0, 120, (4, 4, 3), dtype=np.uint8)
        coarse[:, :, number % 3] += 130
        path = folder / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((40, 32), Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


def small_model(seed=0, **settings):
    """Returns a conv4 model of 8 dimensions with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder("conv4", embedding_dim=8)
    return EmbeddingModel(encoder, image_size=28, resize=28, **settings).eval()
