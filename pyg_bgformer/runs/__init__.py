"""Runs on disk: their files, results, provenance and differences."""
