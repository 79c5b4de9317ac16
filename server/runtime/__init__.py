"""The coordinator's processes: the loop, SuperLink, gateway, `up` and `doctor`."""
