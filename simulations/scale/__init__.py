"""`fedforget-sim scale`: what grows with the number of hospitals, measured at the server and apart from them."""
