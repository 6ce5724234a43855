"""Encoders: backbone, pooling and embedding head, built by name.

>>> import torch
>>> encoder = build_encoder("conv4", embedding_dim=64)
>>> encoder(torch.rand(2, 3, 28, 28)).shape
torch.Size([2, 64])
"""

from pyg_bgformer.encoders.backbone import Backbone
from pyg_bgformer.encoders.build import ENCODERS, build_encoder, encoder_options
from pyg_bgformer.encoders.conv4 import Conv4
from pyg_bgformer.encoders.encoder import Encoder, EncoderSpec
from pyg_bgformer.encoders.pooling import global_pool

__all__ = [
    "ENCODERS",
    "Backbone",
    "Conv4",
    "Encoder",
    "EncoderSpec",
    "build_encoder",
    "encoder_options",
    "global_pool",
]
