"""ISMRMRD files by the package of the format, and a letter F with a marked voxel in world space."""

from __future__ import annotations

import ismrmrd
import numpy as np

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<subjectInformation><patientName>CANARY-NAME</patientName>
<patientID>CANARY-ID</patientID></subjectInformation>
<measurementInformation><protocolName>CANARY-PROTOCOL</protocolName></measurementInformation>
<acquisitionSystemInformation><systemVendor>{vendor}</systemVendor>
<systemFieldStrength_T>2.89</systemFieldStrength_T>
<relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth>
<deviceSerialNumber>CANARY-SERIAL</deviceSerialNumber><unheardOf>1</unheardOf>
</acquisitionSystemInformation>
<experimentalConditions><H1resonanceFrequency_Hz>123200000</H1resonanceFrequency_Hz>
</experimentalConditions>
<encoding>
<encodedSpace><matrixSize><x>{nx}</x><y>{ny}</y><z>{nz}</z></matrixSize>
<fieldOfView_mm><x>{fx}</x><y>{fy}</y><z>{fz}</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{rx}</x><y>{ny}</y><z>{nz}</z></matrixSize>
<fieldOfView_mm><x>{rfx}</x><y>{fy}</y><z>{fz}</z></fieldOfView_mm></reconSpace>
<encodingLimits>
<kspace_encoding_step_1><minimum>0</minimum><maximum>{maximum}</maximum>
<center>{center}</center></kspace_encoding_step_1>
<kspace_encoding_step_2><minimum>0</minimum><maximum>0</maximum><center>{center2}</center>
</kspace_encoding_step_2></encodingLimits>
<trajectory>{trajectory}</trajectory>
{parallel}
</encoding>
<sequenceParameters><TR>500</TR><TE>CANARY-TE</TE></sequenceParameters>
</ismrmrdHeader>"""

# an oblique, right-handed set of LPS directions: readout, phase encoding, slice
OBLIQUE = np.array([[0.8, 0.6, 0.0], [-0.48, 0.64, 0.6], [0.36, -0.48, 0.8]])


def header(nx, ny, nz=1, *, voxel=(3.0, 2.0, 2.5), oversampling=1, **changes):
    """Header of a matrix ``(nx, ny, nz)`` of voxels (slice, row, column) mm; ``nx`` as encoded."""
    values = {
        "nx": nx, "ny": ny, "nz": nz, "rx": nx // oversampling,
        "fx": nx * voxel[2], "fy": ny * voxel[1], "fz": nz * voxel[0],
        "rfx": nx // oversampling * voxel[2], "maximum": ny - 1, "center": ny // 2,
        "center2": nz // 2, "trajectory": "cartesian", "parallel": "",
        "vendor": "Philips Healthcare",
    }  # fmt: skip
    text = HEADER
    values.update(changes)
    return text.format(**values)


def acquisition(samples, *, flags=(), axes=OBLIQUE, position=(0, 0, 0), traj=None, **fields):
    """One readout ``(coils, samples)``; ``fields`` are those of the head or of its counters."""
    trajectory = None if traj is None else np.ascontiguousarray(traj, np.float32)
    acq = ismrmrd.Acquisition.from_array(
        np.ascontiguousarray(samples, np.complex64), trajectory, version=1
    )
    acq.center_sample = samples.shape[1] // 2
    acq.sample_time_us = 10.0
    acq.read_dir[:], acq.phase_dir[:], acq.slice_dir[:] = axes
    acq.position[:] = position
    for flag in flags:
        acq.setFlag(flag)
    for name, value in fields.items():
        target = acq.idx if hasattr(acq.idx, name) else acq
        setattr(target, name, value)
    return acq


def write(path, head, acquisitions, group="dataset"):
    data = ismrmrd.Dataset(str(path), group)
    data.write_xml_header(head.encode())
    for acq in acquisitions:
        data.append_acquisition(acq)
    data.close()
    return path


def letter_f(rows, columns):
    """A letter F, upright, with one voxel of value 5 right of its foot: no symmetry left."""
    image = np.zeros((rows, columns))
    image[3 : rows - 3, 4] = 1
    image[3, 4 : columns - 4] = 1
    image[rows // 2 - 1, 4 : columns - 6] = 1
    image[rows - 4, columns - 5] = 5
    return image


MARKER = 5.0


def forward(image, axes):
    """Centred orthonormal transform, by the definition of the signal: exp(-2 pi i k x)."""
    for axis in axes:
        n = image.shape[axis]
        index = np.arange(n) - n // 2
        matrix = np.exp(-2j * np.pi * np.outer(index, index) / n) / np.sqrt(n)
        image = np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)
    return image


def lines(image, maps, **fields):
    """Readouts of one slice ``(rows, columns)`` seen by coils: one for each phase encoding."""
    k = forward(maps * image, (-2, -1))
    return [acquisition(k[:, y], kspace_encode_step_1=y, **fields) for y in range(k.shape[1])]
