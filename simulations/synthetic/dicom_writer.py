"""Made-up radiographs as real DICOM files: 12 bits in 16, with a window (PS3.3 A.26, digital X-ray)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from simulations.synthetic.patients import Hospital, Patient

BITS = 12
WHITE = 2**BITS - 1
FIELD_MM = 400
"""Side of the square detector."""


def write_dicom(
    path: Path, image: NDArray[np.floating], hospital: Hospital, patient: Patient, *, patient_id: str, study_id: str
) -> None:
    """Write `image`, `[height, width]` in 0 to 1, as the hospital's scanner stores it; same values, same bytes."""
    # MONOCHROME1 stores white as the smallest value.
    grey = hospital.low + hospital.span * (1.0 - image if hospital.is_inverted else image)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = make_uid(study_id, "image")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = make_uid(study_id, "study")
    data.SeriesInstanceUID = make_uid(study_id, "series")
    data.PatientID = patient_id
    data.PatientName = f"{patient_id}^Made-up"
    data.PatientSex = patient.sex
    data.PatientAge = f"{patient.age:03d}Y"
    data.AccessionNumber = study_id
    # Attributes that the standard requires to be there, though they may be empty (type 2).
    data.StudyDate = data.StudyTime = data.StudyID = data.ReferringPhysicianName = data.PatientBirthDate = ""
    data.SeriesNumber = data.InstanceNumber = 1
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.PresentationIntentType = "FOR PRESENTATION"
    data.Modality = "DX"
    data.BodyPartExamined = "CHEST"
    data.ViewPosition = "PA"
    data.PatientOrientation = ["L", "F"]
    data.ImageLaterality = "U"
    data.InstitutionName = hospital.name
    data.Manufacturer = "FedForget"
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel = 1
    data.PixelRepresentation = 0
    data.BitsAllocated = 16
    data.BitsStored = BITS
    data.HighBit = BITS - 1
    data.PhotometricInterpretation = "MONOCHROME1" if hospital.is_inverted else "MONOCHROME2"
    data.PresentationLUTShape = "INVERSE" if hospital.is_inverted else "IDENTITY"
    data.PixelIntensityRelationship = "LOG"
    data.PixelIntensityRelationshipSign = 1 if hospital.is_inverted else -1
    data.RescaleIntercept = 0
    data.RescaleSlope = 1
    data.RescaleType = "US"
    data.LossyImageCompression = "00"
    data.BurnedInAnnotation = "NO"
    data.ImagerPixelSpacing = [FIELD_MM / image.shape[0], FIELD_MM / image.shape[1]]
    data.WindowCenter = hospital.low + hospital.span // 2
    data.WindowWidth = hospital.span
    data.PixelData = np.clip(np.rint(grey), 0, WHITE).astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


def make_uid(*parts: str) -> UID:
    """A UID derived from `parts` (PS3.5 B.2: 2.25 and a number of 128 bits)."""
    digest = hashlib.sha256("/".join(parts).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")
