"""Manifests, patient lists and MIMIC-CXR folders, as spreadsheets and archives write them."""
