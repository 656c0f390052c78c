"""Adapts the default optimizer to one model: a search over its constants by whole trainings, and a verdict."""
