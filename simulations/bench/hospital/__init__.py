"""Benchmarks and drills of one hospital's services: consents, opt-out lists, the console."""
