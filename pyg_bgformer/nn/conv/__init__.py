"""Layers, one operator a file, like those of ``torch_geometric.nn.conv``."""
