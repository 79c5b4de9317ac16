"""Certificates, private keys and passphrases."""
