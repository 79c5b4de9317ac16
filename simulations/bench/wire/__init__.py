"""Benchmarks of what travels between coordinator and sites, next to Flower's own FedAvg."""
