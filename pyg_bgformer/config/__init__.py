"""What a run is, and how a recipe is read."""
