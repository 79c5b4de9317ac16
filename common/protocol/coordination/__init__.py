"""What sites and the coordinator say to each other beside Flower: `coordination.proto`, and the code made from it.

Change the `.proto` and run `make proto`; the generated files are never edited. Only numbers and digests go this way.
"""
