"""From a name or a path to a checked scene."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hyperline.errors import InputError
from hyperline.scenes import envi, geotiff, indian_pines, mat, npz
from hyperline.scenes.envi_header import EnviHeader, find_data, find_header, read_header
from hyperline.scenes.georeference import Georeference, georeference
from hyperline.scenes.labels import LabelMap
from hyperline.scenes.scene import Scene
from hyperline.scenes.wavelengths import check_wavelengths

_NUMPY = (".npz", ".npy")
_MATLAB = (".mat",)
_OF_NAMED_ARRAYS = (".npz", ".mat")
_TIFF = (".tif", ".tiff")


def read_scene(spec: str | Path, labels: str | Path | None = None) -> Scene:
    """Read a scene and, where there is one, its label map.

    Args:
        spec: ``indian-pines``, or the path of an .npz, .npy, .mat, ENVI (header or data file) or GeoTIFF
            file. ``FILE.npz:NAME`` and ``FILE.mat:NAME`` choose one array of several as the cube.
        labels: path of a label map in any of these formats; replaces the labels and the class names that
            the scene's own file may hold.

    Returns:
        The scene, its cube (line, sample, band) in the file's own dtype: memory-mapped for ENVI and .npy.

    Raises:
        InputError: a file is missing, damaged, contradicts itself, or is no hyperspectral cube.
    """
    where = str(spec)
    scene = _read_cube(spec)
    _check_cube(scene, where)
    if labels is not None:
        truth = _read_labels(labels, scene.cube.shape[:2])
        notes = scene.notes + truth.notes
        scene = replace(scene, labels=truth.values, class_names=truth.class_names, notes=notes)
        where = str(labels)
    if scene.labels is not None and scene.labels.shape != scene.cube.shape[:2]:
        raise InputError(
            f"{where}: the labels are {scene.labels.shape[0]} lines × {scene.labels.shape[1]} samples, "
            f"the cube is {scene.lines} × {scene.samples}; they must cover the same pixels"
        )
    return scene


def read_truth(spec: str | Path, size: tuple[int, int]) -> LabelMap:
    """Read the labels alone, of a scene that holds them or of a label map.

    Args:
        spec: as in :func:`read_scene`; ``FILE:NAME`` chooses the array of the labels.
        size: (lines, samples) expected, by which a .mat file's label map is told from its other arrays.

    Raises:
        InputError: a file is missing, damaged, or holds no label map.
    """
    if str(spec) == indian_pines.NAME:
        scene = indian_pines.read_scene()
        assert scene.labels is not None
        return LabelMap(scene.labels, scene.class_names, scene.notes)
    return _read_labels(spec, size)


def read_frames(spec: str | Path) -> Scene:
    """Read lines of radiometry (dark, white) or a table of a detector (gain, bad elements).

    Args:
        spec: as in :func:`read_scene`. A file of one band and several lines is an image of the detector, with its
            bands down the lines.

    Returns:
        A scene without labels, whose cube is (line, sample, band); one line for a table, which in a NumPy or a
        MATLAB file has two axes, in the file's order.

    Raises:
        InputError: a file is missing, damaged, or holds no such thing.
    """
    scene = replace(_read_cube(spec), labels=None, class_names=())
    cube = scene.cube
    if cube.ndim == 3 and cube.shape[2] == 1 and cube.shape[0] > 1:
        cube = cube.transpose(2, 1, 0)
        scene = replace(scene, wavelengths_nm=None)
    elif cube.ndim == 2:
        cube = cube[None]
    if cube.ndim != 3 or 0 in cube.shape or cube.dtype.kind not in "iufb":
        axes = " × ".join(map(str, scene.cube.shape)) or "a single value"
        raise InputError(
            f"{spec}: holds {scene.cube.dtype} of {axes}; it must hold real numbers, (line, sample, band) or "
            "(sample, band)"
        )
    return replace(scene, cube=cube)


def read_georeference(spec: str | Path) -> Georeference | None:
    """Read where a scene lies on a map.

    Args:
        spec: as in :func:`read_scene`.

    Returns:
        None where its file does not say it: NumPy and MATLAB files, raw lines.

    Raises:
        InputError: the file is missing or damaged, or rasterio is not installed.
    """
    if str(spec) == indian_pines.NAME:
        return None
    path, _ = _locate(spec)
    if path.suffix.lower() in (*_NUMPY, *_MATLAB):
        return None
    header, data = _locate_raster(path)
    return georeference(data, header)


def read_envi_header(spec: str | Path) -> EnviHeader | None:
    """Return the ENVI header of a scene, or None where it has none.

    Raises:
        InputError: a file is missing or damaged.
    """
    if str(spec) == indian_pines.NAME:
        return None
    path, _ = _locate(spec)
    return None if path.suffix.lower() in (*_NUMPY, *_MATLAB) else _locate_raster(path)[0]


def _read_cube(spec: str | Path) -> Scene:
    if str(spec) == indian_pines.NAME:
        return indian_pines.read_scene()
    path, variable = _locate(spec)
    suffix = path.suffix.lower()
    if suffix in _NUMPY:
        return npz.read_scene(path, variable)
    if suffix in _MATLAB:
        return mat.read_scene(path, variable)
    header, data = _locate_raster(path)
    if header is None or header.is_tiff:
        return geotiff.read_scene(data, header)
    return envi.read_scene(header, data)


def _read_labels(spec: str | Path, size: tuple[int, int]) -> LabelMap:
    path, variable = _locate(spec)
    suffix = path.suffix.lower()
    if suffix in _NUMPY:
        return npz.read_labels(path, variable)
    if suffix in _MATLAB:
        return mat.read_labels(path, variable, size)
    header, data = _locate_raster(path)
    if header is None or header.is_tiff:
        return geotiff.read_labels(data)
    return envi.read_labels(header, data)


def _locate(spec: str | Path) -> tuple[Path, str | None]:
    """Split ``FILE:NAME``, and see that the file is there."""
    path, variable = Path(spec), None
    head, colon, name = str(spec).rpartition(":")
    if colon and name and not path.is_file() and Path(head).suffix.lower() in _OF_NAMED_ARRAYS:
        path, variable = Path(head), name
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; a scene is '{indian_pines.NAME}' or the path of an .npz, .npy, .mat, "
            "ENVI .hdr or GeoTIFF file"
        )
    return path, variable


def _locate_raster(path: Path) -> tuple[EnviHeader | None, Path]:
    """Pair an ENVI header with its data file, whichever of the two was named; a plain GeoTIFF has none."""
    if path.suffix.lower() == ".hdr":
        header = read_header(path)
        return header, find_data(header)
    beside = find_header(path)
    if path.suffix.lower() in _TIFF:
        header_of_tiff = read_header(beside) if beside is not None else None
        return (header_of_tiff if header_of_tiff is not None and header_of_tiff.is_tiff else None), path
    if beside is None:
        raise InputError(
            f"{path}: not a format known by its name (.npz, .npy, .mat, .hdr, .tif), and no ENVI header "
            f"{path.stem}.hdr stands beside it"
        )
    return read_header(beside), path


def _check_cube(scene: Scene, where: str) -> None:
    shape = scene.cube.shape
    if len(shape) != 3:
        axes = " × ".join(map(str, shape)) or "a single value"
        raise InputError(f"{where}: the cube has {len(shape)} axes ({axes}); it needs (line, sample, band)")
    if scene.cube.dtype.kind not in "iuf":
        raise InputError(f"{where}: the cube holds {scene.cube.dtype}; it must hold real numbers (integer or float)")
    if 0 in shape:
        size = f"{scene.lines} lines × {scene.samples} samples × {scene.bands} bands"
        raise InputError(f"{where}: the cube is empty ({size})")
    if scene.bands < 2:
        raise InputError(f"{where}: the cube has 1 band; a hyperspectral scene has at least 2")
    if scene.wavelengths_nm is not None:
        check_wavelengths(scene.wavelengths_nm, scene.bands, where)
