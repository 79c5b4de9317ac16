"""The hospital's gRPC consent service: access control, answers and the process."""
