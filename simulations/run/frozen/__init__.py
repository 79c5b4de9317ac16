"""The study of frozen public encoders on the real set: their folders, the runs, and the page."""
