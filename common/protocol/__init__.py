"""What travels between site and coordinator: messages, deltas, arrays, instructions, the bundle, enrolment."""
