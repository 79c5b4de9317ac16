"""Benchmarks, drills, and figures about the code itself."""
