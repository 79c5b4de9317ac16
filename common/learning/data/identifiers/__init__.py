"""What a patient's identifier is, and which ones only look alike."""
