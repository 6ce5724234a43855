"""What is deployed: embedding models, and indexes of what they embed."""
