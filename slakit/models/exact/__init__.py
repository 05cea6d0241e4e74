"""The same algebra, faster: never needed to understand a model."""
