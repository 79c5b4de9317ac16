"""Rehearsals at a site: forgetting patients who have not revoked, to learn what the audit can detect."""
