"""Simple classifiers on the same patients: what a model has to beat before anybody deploys it."""
