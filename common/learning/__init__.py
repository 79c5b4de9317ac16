"""What sites and coordinator compute with: settings, records, data, model, training, unlearning, evaluation."""
