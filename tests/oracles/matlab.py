"""Small MATLAB files in every variant, and the values that SciPy (version 7.3: h5py) reads from them.

    python tests/oracles/matlab.py                     writes tests/oracles/matlab/*.mat and values.json
    python tests/oracles/matlab.py --corpus DIR OUT    writes what SciPy reads from every file in DIR to OUT (JSON)

SciPy's own files (DIR = .../scipy/io/matlab/tests/data, part of the wheel) are compared by the test
`scipys_own_files` with HEARTLORE_SCIPY_MAT=DIR, after OUT = DIR/values.json was written.

Made with Python 3.11, NumPy 2.4.6, SciPy 1.17.1, h5py 3.16.0, hdf5storage 0.2.2.
What savemat cannot write (big-endian, UTF-16, storage narrower than the class, small elements in odd places, wrong
checksums) is packed here by hand after MATLAB's "MAT-File Format" and read back with SciPy.
"""
import io
import json
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import scipy
import scipy.io
import scipy.sparse

OUT = Path(__file__).parent / "matlab"
NAMES = {"f8": "double", "f4": "single", "b1": "logical", "i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16",
         "i4": "int32", "u4": "uint32", "i8": "int64", "u8": "uint64", "c16": "double", "c8": "single"}


def number(x):
    if isinstance(x, (int, np.integer)):
        return str(int(x)) if abs(int(x)) > 2**53 else int(x)
    # As text: a JSON reader may round the last bit.
    return repr(float(x))


def numbers(a):
    return [number(x) for x in np.asarray(a).ravel(order="F").tolist()]


def tree(v):
    """A value as SciPy gives it, as JSON."""
    if scipy.sparse.issparse(v):
        v = v.tocsc()
        v.sum_duplicates()
        out = {"class": "sparse", "dims": list(v.shape), "rows": v.indices.tolist(), "columns": v.indptr.tolist(),
               "re": numbers(v.data.real)}
        if np.iscomplexobj(v.data):
            out["im"] = numbers(v.data.imag)
        return out
    if isinstance(v, scipy.io.matlab.MatlabFunction):
        return {"class": "function"}
    if isinstance(v, scipy.io.matlab.MatlabOpaque):
        return {"class": "opaque"}
    v = np.asarray(v) if not isinstance(v, np.ndarray) else v
    dims = list(v.shape) if v.ndim > 1 else [1, 1] if v.ndim == 0 else list(v.shape) + [1]
    if v.dtype.names is not None or v.dtype == object and isinstance(v, scipy.io.matlab.MatlabObject):
        name = "object" if isinstance(v, scipy.io.matlab.MatlabObject) else "struct"
        fields = list(v.dtype.names or [])
        flat = np.asarray(v).ravel(order="F")
        return {"class": name, "dims": dims, "fields": fields,
                "values": [tree(e[f]) for e in flat for f in fields]}
    if v.dtype == object and v.ndim == 0:
        return {"class": "unknown"}
    if v.dtype == object:
        return {"class": "cell", "dims": dims, "values": [tree(e) for e in v.ravel(order="F")]}
    if v.dtype.kind == "U":
        if v.ndim > 2:
            return {"class": "char", "dims": dims}
        rows = ["".join(r) for r in v.tolist()] if v.size else []
        return {"class": "char", "dims": dims, "text": rows}
    out = {"class": NAMES[v.dtype.newbyteorder("=").str.lstrip("<>|=")], "dims": dims, "re": numbers(v.real)}
    if np.iscomplexobj(v):
        out["im"] = numbers(v.imag)
    return out


def read(file):
    """What SciPy makes of a file, or why it refuses."""
    def load(mat_dtype):
        if hasattr(file, "seek"):
            file.seek(0)
        values = scipy.io.loadmat(file, mat_dtype=mat_dtype, struct_as_record=True, chars_as_strings=False)
        return {k: tree(v) for k, v in values.items() if not k.startswith("__") and k != "None"}

    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            values = load(False)
        except Exception as e:  # noqa: BLE001 - the refusal itself is the answer
            return {"refused": f"{type(e).__name__}: {e}"}
        # With mat_dtype SciPy drops imaginary parts: classes from there, values from here.
        classes = load(True)
    for k in values:
        name_classes(values[k], classes[k])
    return {"variables": values, "warnings": [str(w.message) for w in noted if "Casting" not in str(w.message)]}


def name_classes(value, other):
    value["class"] = other["class"]
    for a, b in zip(value.get("values", []), other.get("values", [])):
        name_classes(a, b)


# By hand ----------------------------------------------------------------------------------------------------------

def element(code, data, order="<", small=True):
    n = len(data)
    if 0 < n <= 4 and small:
        return struct.pack(order + "I", n << 16 | code) + data.ljust(4, b"\0")
    return struct.pack(order + "II", code, n) + data + b"\0" * (-n % 8)


def head(klass, dims, name, order="<", flags=0, nzmax=0):
    return (element(6, struct.pack(order + "II", klass | flags << 8, nzmax), order)
            + element(5, struct.pack(order + "%di" % len(dims), *dims), order)
            + element(1, name.encode(), order))


def matrix(klass, dims, name, parts, order="<", flags=0, nzmax=0):
    return element(14, head(klass, dims, name, order, flags, nzmax) + b"".join(parts), order)


def file_bytes(elements, order="<", text=b"MATLAB 5.0 MAT-file, made by hand"):
    mark = struct.pack(order + "HH", 0x0100, 0x4D49)
    return text.ljust(116) + b"\0" * 8 + mark + b"".join(elements)


def compressed(data, order="<", checksum=None, tail=b""):
    z = zlib.compress(data, 9)
    if checksum is not None:
        z = z[:-4] + checksum
    z += tail
    return struct.pack(order + "II", 15, len(z)) + z


def by_hand(order):
    p = lambda fmt, *v: struct.pack(order + fmt, *v)  # noqa: E731
    cell = matrix(6, [1, 3], "", [element(2, bytes([1, 2, 250]), order)], order)
    text16 = "caf\u00e9 \u03bcV".encode("utf-16-be" if order == ">" else "utf-16-le")
    fields = element(5, p("i", 8), order) + element(1, b"alpha\0\0\0be\0\0\0\0\0\0", order)
    return [
        matrix(6, [2, 2], "narrow", [element(3, p("4h", -3, 7, 300, -32768), order)], order),
        matrix(6, [1, 2], "tiny", [element(2, b"\x05\xff", order)], order),
        matrix(7, [3, 1], "single_in_bytes", [element(1, p("3b", -1, 0, 127), order)], order),
        matrix(14, [1, 2], "wide", [element(12, p("2q", 2**62 + 1, -(2**61) - 3), order)], order),
        matrix(15, [1, 2], "unsigned", [element(13, p("2Q", 2**63 + 5, 1), order)], order),
        matrix(12, [1, 2], "int32_in_uint8", [element(2, b"\x01\xc8", order)], order),
        matrix(6, [1, 2], "complex", [element(9, p("2d", 1.5, -2.0), order), element(1, p("2b", 3, -4), order)],
               order, flags=8),
        matrix(9, [1, 3], "logical", [element(2, b"\1\0\1", order)], order, flags=2),
        matrix(4, [1, len(text16) // 2], "utf16", [element(17, text16, order)], order),
        matrix(4, [2, 3], "rows", [element(4, p("6H", *b"adbecf"), order)], order),
        matrix(4, [1, 4], "utf8", [element(16, "\u00fcber".encode(), order)], order),
        matrix(1, [1, 2], "cells", [cell, element(14, b"", order)], order),
        matrix(2, [1, 2], "structs", [fields] + [matrix(6, [1, 1], "", [element(9, p("d", x), order)], order)
                                                  for x in (1.25, 2.5, 3.75, 5.0)], order),
        matrix(6, [2, 1, 3], "cube", [element(9, p("6d", *range(6)), order)], order),
        matrix(5, [4, 3], "sparse", [element(5, p("3i", 1, 0, 3), order), element(5, p("4i", 0, 1, 1, 3), order),
                                     element(9, p("3d", 5.0, -1.0, 2.5), order)], order, nzmax=3),
    ]


def v4(order, mopt, name, values, rows, columns, imag=None):
    machine = 1000 if order == ">" else 0
    out = struct.pack(order + "5i", machine + mopt, rows, columns, imag is not None, len(name) + 1)
    return out + name.encode() + b"\0" + values + (imag or b"")


def made():
    rng = np.random.default_rng(7)
    deep = np.array([[1.0]])
    for _ in range(20):
        cell = np.empty((1, 1), dtype=object)
        cell[0, 0] = deep
        deep = cell
    mixed = np.empty((2, 3), dtype=object)
    mixed[0, 0] = np.arange(4.0).reshape(2, 2)
    mixed[0, 1] = "text"
    mixed[0, 2] = np.zeros((0, 0))
    mixed[1, 0] = {"a": 1.0, "b": "two", "c": {"d": np.array([[3, 4]], dtype=np.int16)}}
    mixed[1, 1] = np.array([[1 + 2j, 3 - 4j]])
    mixed[1, 2] = np.array([[True, False]])
    records = np.zeros((2, 2), dtype=[("x", object), ("name", object)])
    for i in range(2):
        for j in range(2):
            records[i, j] = (rng.standard_normal((1, i + j + 1)), f"r{i}{j}")
    everything = {
        "double": rng.standard_normal((3, 2)), "empty": np.zeros((0, 3)), "scalar": 2.0,
        "special": np.array([[np.nan, np.inf, -np.inf, -0.0, 5e-324]]),
        **{str(np.dtype(t)): np.array([[1, 2], [3, 4]], dtype=t)
           for t in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4")},
        "complex": rng.standard_normal((2, 2)) + 1j * rng.standard_normal((2, 2)),
        "logical": np.array([[True, False, True]]), "text": "plain", "accents": "na\u00efve \u03bcV",
        "lines": np.array(["ab ", "cde"]), "no_text": "", "nd": rng.standard_normal((2, 3, 4, 2)),
        "sparse": scipy.sparse.csc_matrix(np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, -3]])),
        "sparse_complex": scipy.sparse.csc_matrix(np.array([[0, 1j], [2 - 1j, 0]])),
        "mixed": mixed, "records": records, "deep": deep, "long": np.arange(3000.0).reshape(-1, 2),
    }
    files = {}
    for name, compress in (("v5", False), ("v7", True)):
        b = io.BytesIO()
        scipy.io.savemat(b, everything, do_compression=compress, oned_as="row")
        # savemat writes the time: fix it, so that the file is the same each time.
        files[name] = b"MATLAB 5.0 MAT-file Platform: posix, made by SciPy".ljust(116) + b.getvalue()[116:]
    for name, order in (("little", "<"), ("big", ">")):
        files[f"hand_{name}"] = file_bytes(by_hand(order), order)
        files[f"hand_{name}_z"] = file_bytes([compressed(e, order) for e in by_hand(order)], order)
    one = matrix(6, [1, 3], "x", [element(9, struct.pack("<3d", 1, 2, 3))])
    two = matrix(6, [1, 1], "y", [element(9, struct.pack("<d", 4))])
    files["bad_checksum"] = file_bytes([compressed(one, checksum=b"\1\2\3\4"), compressed(two)])
    files["no_checksum"] = file_bytes([compressed(one)[:0] + struct.pack("<II", 15, len(zlib.compress(one, 9)) - 4)
                                       + zlib.compress(one, 9)[:-4], compressed(two)])
    files["trailing"] = file_bytes([compressed(one, tail=b"\0" * 8), compressed(two)])
    clef = "clef \U0001d11e".encode("utf-16-le")
    files["surrogate"] = file_bytes([matrix(4, [1, len(clef) // 2], "clef", [element(17, clef)])])
    handle = matrix(16, [1, 1], "handle", [matrix(2, [1, 1], "", [element(5, struct.pack("<i", 2)), element(1, b"f\0"),
                                                                  one])])
    opaque = element(14, element(6, struct.pack("<II", 17, 0)) + element(1, b"table") + element(1, b"MCOS")
                     + element(1, b"table") + two)
    files["code"] = file_bytes([handle, opaque, one])
    for name, order in (("v4_little", "<"), ("v4_big", ">")):
        d = lambda *v: struct.pack(order + "%dd" % len(v), *v)  # noqa: E731
        files[name] = b"".join([
            v4(order, 0, "a", d(1, 2, 3, 4, 5, 6.5), 3, 2),
            v4(order, 0, "z", d(1, 2), 1, 2, d(-1, 0.5)),
            v4(order, 30, "shorts", struct.pack(order + "3h", -5, 0, 900), 1, 3),
            v4(order, 50, "bytes", bytes([7, 200]), 2, 1),
            v4(order, 1, "word", d(*b"hello"), 1, 5),
            v4(order, 2, "s", d(1, 3, 4, 2, 1, 3, 7.5, -2, 0), 3, 3),
        ])
    return files


def v73(path):
    """A version 7.3 file by hdf5storage, read back by hdf5storage and, for the numbers, by h5py."""
    import h5py
    import hdf5storage
    rng = np.random.default_rng(11)
    cells = np.empty((1, 3), dtype=object)
    cells[0, 0], cells[0, 1], cells[0, 2] = rng.standard_normal((5, 2)), "in a cell", np.zeros((0, 0))
    data = {
        "m": rng.standard_normal((4, 3)), "i": np.array([[1, -2, 3]], dtype=np.int32), "t": "text 7.3",
        "c": cells, "z": np.array([[1 + 2j, 3 - 1j]]), "b": np.array([[True, False]]), "e": np.zeros((0, 3)),
        "s": {"ecg": rng.standard_normal((6, 2)), "inner": {"rate": 256.0, "unit": "mV"}}, "long": np.arange(5000.0),
        "data": np.array([[None]], dtype=object),
    }
    del data["data"]
    path.unlink(missing_ok=True)
    hdf5storage.savemat(str(path), data, appendmat=False, format="7.3", oned_as="row", store_python_metadata=False)
    with h5py.File(path) as f:
        assert np.array_equal(f["m"][()].T, data["m"])
        assert np.array_equal(f["s/ecg"][()].T, data["s"]["ecg"])
    data["long"] = data["long"].reshape(1, -1)
    text = lambda s: {"class": "char", "dims": [1, len(s)], "text": [s]}  # noqa: E731

    def value(v):
        if isinstance(v, str):
            return text(v)
        if isinstance(v, dict):
            return {"class": "struct", "dims": [1, 1], "fields": list(v), "values": [value(x) for x in v.values()]}
        v = np.asarray(v)
        if v.dtype == object:
            return {"class": "cell", "dims": list(v.shape), "values": [value(x) for x in v.ravel(order="F")]}
        return tree(v)

    return {"variables": {k: value(v) for k, v in data.items()}, "warnings": []}


def opensignals(path):
    """HDF5 as OpenSignals lays it out."""
    import h5py
    with h5py.File(path, "w") as f:
        device = f.create_group("00:07:80:3B:46:61")
        device.attrs["sampling rate"] = np.int64(1000)
        device.attrs["channels"] = np.array([1, 2])
        raw = device.create_group("raw")
        for c in (1, 2):
            values = (32768 + 1000 * c + np.arange(500) % 11).astype("u2")[:, None]
            raw.create_dataset(f"channel_{c}", data=values, chunks=(100, 1), compression="gzip")


def main():
    if sys.argv[1:2] == ["--corpus"]:
        folder, out = Path(sys.argv[2]), Path(sys.argv[3])
        all_ = {p.name: read(str(p)) for p in sorted(folder.glob("*.mat"))}
        out.write_text(json.dumps({"scipy": scipy.__version__, "files": all_}))
        return
    OUT.mkdir(exist_ok=True)
    values = {}
    for name, data in made().items():
        (OUT / f"{name}.mat").write_bytes(data)
        values[f"{name}.mat"] = read(io.BytesIO(data))
    # SciPy refuses these two; what they hold is known.
    values["bad_checksum.mat"] = values["trailing.mat"]
    text = {"class": "char", "dims": [1, 7], "text": ["clef \U0001d11e"]}
    values["surrogate.mat"] = {"variables": {"clef": text}, "warnings": []}
    values["v73.mat"] = v73(OUT / "v73.mat")
    opensignals(OUT / "opensignals.h5")
    (OUT / "values.json").write_text(json.dumps({"scipy": scipy.__version__, "files": values}, separators=(",", ":")).replace('"},"','"},\n"') + "\n")


if __name__ == "__main__":
    main()
