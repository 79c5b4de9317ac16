"""The site's own tamper-evident log, what it attests, and the replay of an unlearning."""
