"""What a hospital's own systems say to its consent service: `consent.proto`, and the code made from it.

Change the `.proto` and run `make proto`; the generated files are never edited.
"""
