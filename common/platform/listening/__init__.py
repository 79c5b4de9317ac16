"""Listening sockets and gRPC servers with limits for unauthenticated clients."""
