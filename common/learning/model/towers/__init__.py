"""Encoders from local folders: what a folder holds, its weights, and its features."""
