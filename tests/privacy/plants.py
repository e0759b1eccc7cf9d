"""Files of every format that are full of names, dates and numbers of people and machines.

:data:`PLANTED` tells what was put where. Each file is a scan (or an image) that is read without a
complaint; nothing of what is planted may come out of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np

#: Canary -> where it was planted.
PLANTED: dict[str, str] = {}


def canary(text: str, place: str) -> str:
    """Note a canary down and return it."""
    assert PLANTED.setdefault(text, place) == place, text
    return text


ROWS, COLUMNS = 32, 32


def kspace() -> np.ndarray:
    """Three coils, complete, ``(coils, rows, columns)``."""
    from sciinv.data.phantoms import shepp_logan
    from sciinv.data.simulate import simulate_mri

    scan = simulate_mri(
        shepp_logan((ROWS, COLUMNS)), coils=3, acceleration=1.0, noise_std=0.02, rng=1
    )
    return np.asarray(scan.data[0])


# ISMRMRD ----------------------------------------------------------------------------------------
def mrd_header(form: str) -> str:
    """An ISMRMRD header with every field that can name somebody."""
    own = form.capitalize()

    def group(name: str, **fields: str) -> str:
        inside = "".join(
            f"<{tag}>{canary(text, f'{form} {name}/{tag}')}</{tag}>" for tag, text in fields.items()
        )
        return f"<{name}>{inside}</{name}>"

    plain = group(
        "subjectInformation", patientName=f"Qx{own}Doe^Qx{own}Jane", patientID=f"QxPid{own}4711",
        patientBirthdate="1959-02-03" if form == "mrd" else "1961-04-07",
        patientWeight_kg=f"91.25{own}", patientGender=f"Qx{own}Gender",
    ) + group(
        "studyInformation", studyDate="2019-08-07" if form == "mrd" else "2018-03-09",
        studyTime="13:37:42" if form == "mrd" else "17:53:21", studyID=f"QxStudy{own}",
        accessionNumber=f"QxAcc{own}99812", referringPhysicianName=f"Qx{own}Watson",
        studyDescription=f"Qx{own}Describes", studyInstanceUID=f"1.2.840.99{len(own)}99.77.1",
        bodyPartExamined=f"Qx{own}Spleen",
    ) + group(
        "measurementInformation", measurementID=f"Qx{own}Measure", protocolName=f"Qx{own}Secret",
        seriesInstanceUIDRoot=f"1.2.840.99{len(own)}99.77.2", seriesDescription=f"Qx{own}Series",
        frameOfReferenceUID=f"1.2.840.99{len(own)}99.77.3", sequenceName=f"Qx{own}Sequence",
        seriesDate="2017-01-19" if form == "mrd" else "2016-10-23",
    )  # fmt: skip
    system = group(
        "acquisitionSystemInformation", systemVendor=f"Qx{own}Vendor", systemModel=f"Qx{own}Model",
        institutionName=f"Qx{own}Clinic", stationName=f"Qx{own}Kappa7", deviceID=f"Qx{own}Device",
        deviceSerialNumber=f"SN20551{own}",
    )  # fmt: skip
    coil = canary(f"Qx{own}Coil8813", f"{form} coilLabel/coilName")
    system = system.replace(
        "</acq",
        f"<coilLabel><coilNumber>0</coilNumber><coilName>{coil}</coilName></coilLabel>"
        "<systemFieldStrength_T>1.5</systemFieldStrength_T></acq",
    )
    values = "".join(
        f"<userParameterString><name>{canary(f'Qx{own}Key{k}', f'{form} userParameters name')}"
        f"</name><value>{canary(f'Qx{own}Value{k}', f'{form} userParameters value')}</value>"
        "</userParameterString>"
        for k in range(2)
    )
    comment = f"<!-- {canary(f'Qx{own}Comment', f'{form} comment in the header')} -->"
    sizes = "".join(
        f"<{space}><matrixSize><x>{COLUMNS}</x><y>{ROWS}</y><z>1</z></matrixSize><fieldOfView_mm>"
        f"<x>64</x><y>48</y><z>5</z></fieldOfView_mm></{space}>"
        for space in ("encodedSpace", "reconSpace")
    )
    limits = (
        f"<encodingLimits>{comment}<kspace_encoding_step_1><minimum>0</minimum><maximum>{ROWS - 1}"
        f"</maximum><center>{ROWS // 2}</center></kspace_encoding_step_1></encodingLimits>"
    )
    stream = canary(f"Qx{own}Stream", f"{form} waveformInformation/waveformName")
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"{plain}{system}<encoding>{sizes}{limits}<trajectory>cartesian</trajectory></encoding>"
        f"<waveformInformation><waveformName>{stream}</waveformName></waveformInformation>"
        f"<userParameters>{values}</userParameters></ismrmrdHeader>"
    )


def mrd(folder: Path) -> Path:
    """ISMRMRD, written by its own package."""
    from ..data import mrd_files as files

    k = kspace()
    acquisitions = [files.acquisition(k[:, row], kspace_encode_step_1=row) for row in range(ROWS)]
    for index, acq in enumerate(acquisitions):
        acq.user_int[0] = 470011 + index
        acq.acquisition_time_stamp = 133742
    path = files.write(folder / "mrd.h5", mrd_header("mrd"), acquisitions)
    with h5py.File(path, "r+") as file:
        file.attrs[canary("QxMrdKey", "HDF5 attribute name")] = canary(
            "QxMrdAttr", "HDF5 attribute"
        )
        file["dataset/data"].attrs["operator"] = canary(
            "QxMrdOperator", "attribute of the readouts"
        )
        file[f"dataset/{canary('QxMrdImages', 'HDF5 group name')}_image"] = np.ones(3)
        file["dataset/note"] = canary("QxMrdNote", "text beside the readouts")
    return path


def fastmri(folder: Path) -> Path:
    """fastMRI, with a header, attributes and a data set that name somebody."""
    path = folder / "fastmri.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace()[None]
        file["mask"] = np.ones(COLUMNS, np.float32)
        file["ismrmrd_header"] = mrd_header("fastmri")
        file["reconstruction_rss"] = np.ones((1, ROWS, COLUMNS), np.float32)
        file.attrs["patient_id"] = canary("Qxattr5150", "fastMRI attribute patient_id")
        file.attrs["acquisition"] = canary("QxDrSmithProtocol", "fastMRI attribute acquisition")
        file["kspace"].attrs["operator"] = canary("QxFastOperator", "attribute of kspace")
        file[canary("QxFastName", "HDF5 data set name")] = np.ones(2)
    return path


# Siemens ----------------------------------------------------------------------------------------
def twix(folder: Path) -> Path:
    """Siemens raw data with the buffers of a scanner's own header."""
    from ..data import test_twix as files

    entries = {
        "tPatientName": "QxTwixDoe^QxTwixJane", "tPatientID": "QxTwixPid",
        "tProtocolName": "QxTwixT1",
        "sPatient.tBirthday": "19620508", "tInstitutionName": "QxTwixClinic",
        "sProductData.tSerialNumber": "QxTwix45321", "tSequenceFileName": "QxTwixFile",
        "tFrameOfReference": "1.3.12.2.1107.5.2.4711", "tStudyDate": "20150611",
        "sCoilSelectMeas.tCoilID": "QxTwixCoil",
    }  # fmt: skip
    planted = {k: f'"{canary(v, f"twix protocol {k}")}"' for k, v in entries.items()}
    k = kspace()
    lines = [files.line(k[:, row], row, centre=(COLUMNS // 2, ROWS // 2, 0)) for row in range(ROWS)]
    sizes = {"sKSpace.lBaseResolution": COLUMNS, "sKSpace.lPhaseEncodingLines": ROWS}
    made = files.measurement(lines, **(sizes | planted))
    fields = ("PatientName", "PatientID", "PatientBirthDay", "InstitutionName", "StationName",
              "DeviceSerialNumber", "ProtocolName", "OperatorName", "HostName")  # fmt: skip
    text = "".join(
        f'<ParamString."t{name}"> {{ "{canary(f"QxEvp{name}", f"twix Meas.evp {name}")}" }}\n'
        for name in fields
    )
    text += '<ParamDouble."flReadoutOSFactor"> { <Precision> 6 1.0 }\n'
    header = made["hdr_str"].tobytes()
    body = b"Config\0" + struct.pack("<I", len(text)) + text.encode() + header[8:]
    body += b"\0" * (-(len(body) + 8) % 32)
    made["hdr_str"] = np.frombuffer(struct.pack("<II", len(body) + 8, 2) + body, "S1")
    path = files.write(folder, made)
    raw = bytearray(path.read_bytes())
    entry = canary("QxRaid^Entry", "twix multi-RAID patient entry").encode()
    raw[32 : 32 + len(entry)] = entry
    path.write_bytes(raw)
    return path


# projections and patterns -----------------------------------------------------------------------
def dxchange(folder: Path) -> Path:
    """DXchange with its groups of sample, experimenter and process."""
    from sciinv.data.phantoms import shepp_logan
    from sciinv.data.simulate import simulate_ct

    image = 0.02 * np.clip(shepp_logan((ROWS, COLUMNS)), 0, None)
    ct = simulate_ct(image, num_angles=24, dose=1e4, rng=1)
    path = folder / "dxchange.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"] = np.round(1e4 * np.exp(-ct.data[0]))[:, None].astype(np.uint16)
        file["exchange/data_white"] = np.full((1, 1, ct.data.shape[-1]), 10000, np.uint16)
        file["exchange/theta"] = np.rad2deg(ct.geometry.angles)
        file["exchange/theta"].attrs["units"] = "deg"
        for name, text in {
            "exchange/title": "QxDxTitle", "measurement/sample/name": "QxDxSample",
            "measurement/sample/experimenter/name": "QxDxExperimenter",
            "measurement/sample/experimenter/email": "QxDxMail",
            "measurement/sample/file_path": "QxDxPath",
            "measurement/instrument/name": "QxDxBeamline",
            "process/notes": "QxDxNotes", "file_creation_datetime": "2014-05-17",
        }.items():  # fmt: skip
            file[name] = canary(text, f"DXchange {name}")
        file["exchange/data"].attrs["description"] = canary("QxDxDescribed", "DXchange attribute")
    return path


def nxtomo(folder: Path) -> Path:
    from ..data import nxtomo_files as nx

    theta = nx.angles()
    stack = nx.Stack().darks().flats(1e4).views(nx.projections(nx.letter_f(), theta), theta)
    names = {
        "title": "QxNxTitle", "sample__name": "QxNxSample", "start_time": "2013-09-29T11:22:33",
        "user__name": "QxNxUser", "user__email": "QxNxMail", "instrument__name": "QxNxBeamline",
        "experiment_identifier": "QxNxVisit", "instrument__detector__local_name": "QxNxDetector",
        "program_name": "QxNxProgram", "instrument__detector__serial_number": "QxNxSerial",
    }  # fmt: skip
    texts = {k: canary(v, f"NXtomo {k.replace('__', '/')}") for k, v in names.items()}
    path = nx.write(folder / "nxtomo.nxs", stack, **texts)
    with h5py.File(path, "r+") as file:
        file.attrs["file_name"] = canary("QxNxFile", "NXtomo attribute file_name")
        file.attrs["HDF5_creator"] = canary("QxNxCreator", "NXtomo attribute creator")
    return path


def cxi(folder: Path) -> Path:
    from ..data import test_cxi as files

    names = {
        "entry_1__title": "QxCxiTitle", "entry_1__sample_1__name": "QxCxiSample",
        "entry_1__start_time": "2012-12-24T10:11:12",
        "entry_1__experiment_identifier": "QxCxiVisit",
        "entry_1__instrument_1__name": "QxCxiBeamline", "entry_1__program_name": "QxCxiProgram",
        "entry_1__image_1__process_1__command": "QxCxiCommand",
    }  # fmt: skip
    texts = {k: canary(v, f"CXI {k.replace('__', '/')}") for k, v in names.items()}
    return files.write(folder / "cxi.cxi", **texts)


# bare arrays ------------------------------------------------------------------------------------
_CT = 'kind = "ct"\nquantity = "line_integrals"\naxes = ["angle", "detector"]\n[ct]\n'
_CT += 'detector_spacing = 1.0\nangles = { stop = 180.0, count = 12, unit = "deg" }\n'


def sinogram() -> np.ndarray:
    return np.random.default_rng(2).uniform(0.5, 1, (12, 16)).astype(np.float32)


def _side(path: Path, name: str) -> Path:
    comment = canary(
        f"Qx{path.suffix[1:].capitalize()}Side", f"comment in the side-car of {path.name}"
    )
    data = f'[data]\nname = "{name}"\n' if name else ""
    path.with_name(f"{path.name}.toml").write_text(f"# {comment}\n{_CT}{data}")
    return path


def matlab(folder: Path) -> Path:
    import scipy.io

    path = folder / "matlab.mat"
    others = {canary("QxMatVariable", "MATLAB variable name"): 1.0,
              "who": canary("QxMatText", "MATLAB text variable")}  # fmt: skip
    scipy.io.savemat(path, {"sino": sinogram(), **others})
    content = bytearray(path.read_bytes())
    head = f"MATLAB 5.0 MAT-file, {canary('QxMatHost', 'MATLAB header text')} 1998-07-06"
    content[:116] = head.encode().ljust(116)
    path.write_bytes(content)
    return _side(path, "sino")


def tiff(folder: Path) -> Path:
    import tifffile

    tags = {315: "QxTifArtist", 316: "QxTifHostComputer", 33432: "QxTifCopyright", 269: "QxTifDoc",
            271: "QxTifMake", 42016: "QxTifUid"}  # fmt: skip
    extra = [(tag, 2, 0, canary(text, f"TIFF tag {tag}"), True) for tag, text in tags.items()]
    path = folder / "tiff.tif"
    tifffile.imwrite(
        path, sinogram(), description=canary("QxTifDescription", "TIFF ImageDescription"),
        datetime=canary("2011:03:04 05:06:07", "TIFF DateTime"), metadata=None, extratags=extra,
        software=canary("QxTifSoftware", "TIFF Software"),
    )  # fmt: skip
    return _side(path, "")


#: Scans by format: writer, and the package of an independent writer it needs.
SCANS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "mrd": (mrd, "ismrmrd"),
    "fastmri": (fastmri, "h5py"),
    "twix": (twix, "twixtools"),
    "dxchange": (dxchange, "h5py"),
    "nxtomo": (nxtomo, "h5py"),
    "cxi": (cxi, "h5py"),
    "matlab": (matlab, "scipy"),
    "tiff": (tiff, "tifffile"),
}


def is_possible(name: str) -> bool:
    """Whether the package that writes a format is installed."""
    return find_spec(SCANS[name][1]) is not None
