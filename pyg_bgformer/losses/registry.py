"""The registry of our own losses."""

from torch import nn

from pyg_bgformer.registry import Registry

LOSSES: Registry[type[nn.Module]] = Registry("loss")
"""Losses that a recipe can choose by name.

A loss is a module ``(embeddings (N, D), labels (N,)) -> scalar``. Its keyword-only constructor arguments are
the options of a recipe. It is also given ``geometry``, ``num_classes`` and ``embedding_dim`` where its constructor
takes them. :func:`~pyg_bgformer.losses.build_loss` also finds the losses of pytorch-metric-learning, which are not
registered here.
"""
