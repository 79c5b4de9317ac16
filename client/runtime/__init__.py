"""Processes of a site: SuperNode, launcher, ClientApps, the coordination client, `up` and `doctor`."""
