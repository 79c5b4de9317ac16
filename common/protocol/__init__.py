"""Data exchanged by site and coordinator: messages, deltas, arrays, instructions, the bundle, enrolment."""
