"""Methods to compare Forget-MI with, one file each."""
