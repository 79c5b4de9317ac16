"""What a consent document says: one pure rule, and the documents that it reads. No storage."""
