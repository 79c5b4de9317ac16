"""Exchanges with the sites: training, aggregation, update gate, signing, journal of steps."""
