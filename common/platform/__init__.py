"""What processes stand on: databases, checks, settings files, who acts."""
