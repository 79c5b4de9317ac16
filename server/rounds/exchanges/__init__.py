"""Exchanges with the sites: sending, signing, waiting for replies, counting and reporting them."""
