"""Listening sockets and gRPC servers with limits before anybody has signed in."""
