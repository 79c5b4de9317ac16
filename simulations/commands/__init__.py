"""The commands of `fedforget-sim`, by subject; torch, Flower and Ray are imported when a command runs."""
