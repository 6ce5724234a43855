"""Plans of batches."""
