"""What sites and coordinator share: data, model, unlearning, evaluation, evidence.

No sockets, no database and no command line live here.
"""
