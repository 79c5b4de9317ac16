"""What each rung of the ladder costs a federation, whom it makes wait, and which it cannot reach."""
