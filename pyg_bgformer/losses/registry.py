"""The registry of our own losses."""

from torch import nn

from pyg_bgformer.registry import Registry

LOSSES: Registry[type[nn.Module]] = Registry("loss")
"""Losses that a recipe can choose by name.

A loss is a module ``(embeddings (N, D), labels (N,)) -> scalar``. The keyword-only arguments of its constructor are
the options of a recipe. If the constructor takes ``geometry``, ``num_classes`` or ``embedding_dim``, the program
supplies them. The losses of pytorch-metric-learning are not registered here;
:func:`~pyg_bgformer.losses.build_loss` finds them too.
"""
