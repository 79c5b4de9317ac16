"""The consent service of a hospital, by gRPC on its own network: who may call it, what it answers, its process."""
