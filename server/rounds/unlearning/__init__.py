"""From revocations to an unlearned model: methods that run at the hospitals, and those of a whole federation."""
