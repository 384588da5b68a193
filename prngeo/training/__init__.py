"""Training: from labelled scenes to a model bundle."""
