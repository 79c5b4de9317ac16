"""What the audit's rules can tell with how many patients."""
