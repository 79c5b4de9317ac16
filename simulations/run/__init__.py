"""One simulated run: settings, preparation, engine, experiment, result; studies over seeds."""
