"""Commands of `fedforget-site`: their output and exit codes. The work is done by the neighbouring packages."""
