"""Measure how well patients were forgotten and the loss of utility: scored at sites, merged at the server."""
