"""Made-up hospitals: radiographs as DICOM files, reports, patients with several studies."""
