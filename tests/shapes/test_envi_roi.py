from __future__ import annotations

import numpy as np
import pytest

from hyperline.errors import InputError

pytest.importorskip("shapely", reason="needs shapely, of hyperline[geo]")
pytest.importorskip("rasterio", reason="needs rasterio, of hyperline[geo]")

from hyperline.scenes import read_georeference
from hyperline.shapes import rasterise, read_shapes

RING = "<LinearRing><Coordinates>\n{}\n</Coordinates></LinearRing>"
ASCII_HEAD = """; ENVI Output of ROIs (5.3) [Sun Feb 07 09:41:07 2021]
; Number of ROIs: 2
; File Dimension: 20 x 12
;
; ROI name: Dry grass
; ROI rgb value: {255, 0, 0}
; ROI npts: 2
;
; ROI name: Water
; ROI rgb value: {0, 0, 255}
; ROI npts: 1
"""


def xml(system, *geometries, name="Dry grass"):
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<RegionsOfInterest version="1.1">\n'
        f'<Region name="{name}" color="255,0,0"><GeometryDef><CoordSysStr>{system}</CoordSysStr>'
        f"{''.join(geometries)}</GeometryDef></Region>\n</RegionsOfInterest>\n"
    )


def polygon(outside, *holes):
    inner = "".join(f"<Interior>{RING.format(hole)}</Interior>" for hole in holes)
    return f"<Polygon><Exterior>{RING.format(outside)}</Exterior>{inner}</Polygon>"


def test_polygons_with_holes_of_envi_5_in_pixels(tmp_path):
    path = tmp_path / "roi.xml"
    path.write_text(xml("none", polygon("1 1 9 1 9 9 1 9 1 1", "3 3 6 3 6 6 3 6 3 3")))
    shapes = read_shapes(path)
    assert any("taken as pixels" in note for note in shapes.notes)
    made = rasterise(shapes, (12, 20), None)
    assert made.class_names == ("Dry grass",)
    assert made.pixels == (64 - 9,)


def test_regions_of_envi_5_in_map_coordinates(tmp_path, envi_scene, on_map):
    place = read_georeference(envi_scene)
    corners = on_map([(2, 3), (5, 3), (5, 7), (2, 7), (2, 3)])
    path = tmp_path / "roi.xml"
    text = " ".join(f"{x} {y}" for x, y in corners)
    path.write_text(xml(place.crs.to_wkt(version="WKT1_ESRI").replace('"', "&quot;"), polygon(text)))
    labels = rasterise(read_shapes(path), (12, 20), place).labels
    assert labels[3:7, 2:5].all()
    assert np.count_nonzero(labels) == 12


def test_points_and_lines_of_envi_5(tmp_path):
    path = tmp_path / "roi.xml"
    lines = "<LineString><Coordinates>1.5 4.5 6.5 4.5</Coordinates></LineString>"
    points = "<MultiPoint><Coordinates>12.5 3.5 14 6</Coordinates></MultiPoint>"
    path.write_text(xml("none", lines, points))
    labels = rasterise(read_shapes(path), (12, 20), None).labels
    assert np.argwhere(labels).tolist() == [[3, 12], *([4, x] for x in range(1, 7)), [6, 14]]


def test_regions_of_pixels_or_thresholds_are_left_out_and_said(tmp_path):
    path = tmp_path / "roi.xml"
    text = xml("none", polygon("1 1 9 1 9 9 1 9 1 1"))
    path.write_text(text.replace("</GeometryDef>", "</GeometryDef><ThresholdDef/>"))
    shapes = read_shapes(path)
    assert len(shapes.shapes) == 1
    assert any("1 other definitions are left out (ThresholdDef of Dry grass)" in note for note in shapes.notes)


@pytest.mark.parametrize(
    "text, message",
    [
        ("<kml></kml>", "its XML is 'kml', not RegionsOfInterest"),
        ("<RegionsOfInterest>", "cannot be read as an ENVI ROI"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><RegionsOfInterest/>', "declares entities"),
        (xml("none", polygon("1 1 9 1 9")), "5 coordinates are no pairs"),
        (xml("none", polygon("1 1 9 1 9 nine 1 1")), "could not convert"),
        (xml("none", "<Polygon></Polygon>"), "a polygon has no outline"),
        (xml("SOMEWHERE", polygon("1 1 9 1 9 9 1 1")), "'SOMEWHERE' is no coordinate system"),
    ],
)
def test_xml_that_is_no_roi_is_refused(tmp_path, text, message):
    path = tmp_path / "roi.xml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_shapes(path)


def test_ascii_of_envi_classic_counts_pixels_from_1(tmp_path):
    path = tmp_path / "roi.txt"
    rows = "    1    3    4  11  12\n    2    4    4  13  14\n\n    1   20   12  15  16\n"
    path.write_text(f"{ASCII_HEAD};   ID    X    Y  B1  B2\n{rows}")
    made = rasterise(read_shapes(path), (12, 20), None)
    assert made.class_names == ("Dry grass", "Water")
    assert np.argwhere(made.labels == 1).tolist() == [[3, 2], [3, 3]]
    assert np.argwhere(made.labels == 2).tolist() == [[11, 19]]
    with pytest.raises(InputError, match="drawn on 12 lines × 20 samples"):
        rasterise(read_shapes(path), (20, 12), None)


def test_ascii_with_map_coordinates_alone_needs_their_system(tmp_path, envi_scene, on_map):
    points = on_map([(2.5, 3.5), (3.5, 3.5), (19.5, 11.5)])
    path = tmp_path / "roi.txt"
    rows = "".join(f"    1  {x}  {y}  11\n" for x, y in points)
    path.write_text(f"{ASCII_HEAD};   ID       Map X       Map Y  B1\n{rows}")
    with pytest.raises(InputError, match=r"do not say where a pixel is.*give --crs"):
        read_shapes(path)
    made = rasterise(read_shapes(path, crs="EPSG:32632"), (12, 20), read_georeference(envi_scene))
    assert np.argwhere(made.labels).tolist() == [[3, 2], [3, 3], [11, 19]]


@pytest.mark.parametrize(
    "text, message",
    [
        ("; ENVI Output of ROIs\n;   ID X Y\n1 2 3\n", "0 names of regions"),
        (f"{ASCII_HEAD};   B1   B2\n1 2\n1 2\n1 2\n", r"its columns \(B1 B2\) do not say where a pixel is"),
        (f"{ASCII_HEAD};   ID X Y\n1 2 3\n", "1 rows of points, its head says 3"),
        (f"{ASCII_HEAD};   ID X Y\n1 2 3\n1 2\n1 2 3\n", "line 14: no x and y in columns 2 and 3"),
        (ASCII_HEAD.replace("npts: 2", "npts: two"), "line 7: 'two' is no whole number"),
    ],
)
def test_ascii_that_contradicts_itself_is_refused(tmp_path, text, message):
    path = tmp_path / "roi.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_shapes(path)


def test_a_binary_roi_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "fields.roi"
    path.write_bytes(b"\x00\x00\x01\x02ROI\x00" * 20)
    with pytest.raises(InputError, match="save the regions as XML, or put them out as ASCII"):
        read_shapes(path)


def test_names_of_envi_regions_need_no_field(tmp_path):
    path = tmp_path / "roi.xml"
    path.write_text(xml("none", polygon("1 1 9 1 9 9 1 9 1 1")))
    with pytest.raises(InputError, match="leave out --class-field"):
        read_shapes(path, class_field="name")
