"""Training, testing and saving; knows the contract of a method and no method."""
