"""Commands of `fedforget-site`: what each prints and how it ends; the work is in the rooms beside."""
