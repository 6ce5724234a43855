"""Datasets: one a file."""
