"""The pages of the coordinator's console, a file each."""
