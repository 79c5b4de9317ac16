"""Simple classifiers on the same patients: a model must beat them to be worth deploying."""
