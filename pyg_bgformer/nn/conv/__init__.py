"""Layers: one operator a file, in the manner of ``torch_geometric.nn.conv``."""
