"""Embedding models for use after training: vectors, indexes, a server and export."""
