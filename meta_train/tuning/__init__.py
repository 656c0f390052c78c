"""Schedules of learning rate, momentum and weight decay for one model, by hypergradients: `meta_train.tune`."""
