"""Radiographs: DICOM, PNG and JPEG to pixels, limits, the cache, duplicates, and noise."""
