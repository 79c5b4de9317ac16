"""Model versions: folders, manifests, cards, quarantine, export."""
