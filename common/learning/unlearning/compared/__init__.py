"""Methods that Forget-MI is compared with, one file each."""
