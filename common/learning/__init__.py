"""Machine learning for sites and coordinator: settings, records, data, model, training, unlearning, evaluation."""
