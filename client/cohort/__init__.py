"""The site and what it holds: imported data, records of rounds, received weights, participation, counts."""
