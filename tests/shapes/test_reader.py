from __future__ import annotations

import numpy as np
import pytest

from hyperline.errors import InputError

shapely = pytest.importorskip("shapely", reason="needs shapely, of hyperline[geo]")
pyogrio = pytest.importorskip("pyogrio", reason="needs pyogrio, of hyperline[geo]")
warp = pytest.importorskip("rasterio.warp", reason="needs rasterio, of hyperline[geo]")

from hyperline.scenes import read_georeference  # noqa: E402
from hyperline.shapes import rasterise, read_shapes  # noqa: E402

CORNERS = [(2, 3), (5, 3), (5, 7), (2, 7), (2, 3)]


def labels_of(path, scene, **options):
    return rasterise(read_shapes(path, **options), (12, 20), read_georeference(scene)).labels


@pytest.fixture
def expected():
    labels = np.zeros((12, 20), np.uint8)
    labels[3:7, 2:5] = 1
    return labels


@pytest.fixture
def on_globe(on_map):
    """Bring (sample, line) corners to longitude and latitude."""

    def bring(corners):
        x, y = np.transpose(on_map(corners))
        return np.transpose(warp.transform("EPSG:32632", "EPSG:4326", x, y)).tolist()

    return bring


def test_geojson_is_longitude_and_latitude(envi_scene, write_geojson, on_globe, expected):
    path = write_geojson(({"class": "grass"}, "Polygon", [on_globe(CORNERS)]))
    np.testing.assert_array_equal(labels_of(path, envi_scene), expected)


def test_geojson_may_name_its_coordinate_system_as_the_older_one_did(envi_scene, write_geojson, on_map, expected):
    path = write_geojson(({"class": "grass"}, "Polygon", [on_map(CORNERS)]), crs="urn:ogc:def:crs:EPSG::32632")
    np.testing.assert_array_equal(labels_of(path, envi_scene), expected)


def test_geojson_in_metres_is_refused_or_told_its_coordinate_system(envi_scene, write_geojson, on_map, expected):
    path = write_geojson(({"class": "grass"}, "Polygon", [on_map(CORNERS)]))
    with pytest.raises(InputError, match=r"longitude and latitude by its standard.*--crs EPSG:NUMBER, or --pixels"):
        read_shapes(path)
    np.testing.assert_array_equal(labels_of(path, envi_scene, crs="EPSG:32632"), expected)


def test_pixels_need_no_map(envi_scene, write_geojson, expected):
    path = write_geojson(({"class": "grass"}, "Polygon", [CORNERS]))
    labels = rasterise(read_shapes(path, pixels=True), (12, 20), None).labels
    np.testing.assert_array_equal(labels, expected)


def test_map_coordinates_need_a_scene_that_says_where_it_lies(write_geojson, on_globe):
    path = write_geojson(({"class": "grass"}, "Polygon", [on_globe(CORNERS)]))
    with pytest.raises(InputError, match=r"does not say where it lies.*--pixels"):
        rasterise(read_shapes(path), (12, 20), None)


@pytest.mark.parametrize("name, driver", [("shapes.gpkg", "GPKG"), ("shapes.shp", "ESRI Shapefile")])
def test_other_formats_in_another_coordinate_system_are_reprojected(
    tmp_path, envi_scene, on_map, expected, name, driver
):
    x, y = np.transpose(on_map(CORNERS))
    x, y = warp.transform("EPSG:32632", "EPSG:3035", x, y)
    polygon = shapely.to_wkb(np.array([shapely.Polygon(np.transpose([x, y]))]))
    path = tmp_path / name
    pyogrio.raw.write(
        path,
        polygon,
        [np.array(["grass"], object)],
        ["class"],
        driver=driver,
        geometry_type="Polygon",
        crs="EPSG:3035",
    )
    np.testing.assert_array_equal(labels_of(path, envi_scene), expected)


def test_a_shapefile_without_its_projection_is_told_it(tmp_path, envi_scene, on_map, expected):
    polygon = shapely.to_wkb(np.array([shapely.Polygon(on_map(CORNERS))]))
    path = tmp_path / "shapes.shp"
    pyogrio.raw.write(
        path,
        polygon,
        [np.array([7], np.int32)],
        ["code"],
        driver="ESRI Shapefile",
        geometry_type="Polygon",
        crs="EPSG:32632",
    )
    path.with_suffix(".prj").unlink()
    with pytest.raises(InputError, match="does not say its coordinate system; give --crs"):
        read_shapes(path)
    np.testing.assert_array_equal(labels_of(path, envi_scene, crs="EPSG:32632"), expected * 7)


def test_a_layer_of_several_is_chosen(tmp_path, on_map):
    polygon = shapely.to_wkb(np.array([shapely.Polygon(on_map(CORNERS))]))
    path = tmp_path / "shapes.gpkg"
    for layer, append in (("fields", False), ("roads", True)):
        pyogrio.raw.write(
            path,
            polygon,
            [np.array([f"of {layer}"], object)],
            ["class"],
            layer=layer,
            append=append,
            driver="GPKG",
            geometry_type="Polygon",
            crs="EPSG:32632",
        )
    with pytest.raises(InputError, match=r"2 layers of shapes \(fields, roads\); choose one with --layer"):
        read_shapes(path)
    with pytest.raises(InputError, match="no layer 'paths' of shapes; it has fields, roads"):
        read_shapes(path, layer="paths")
    assert read_shapes(path, layer="roads").shapes[0].value == "of roads"


def test_the_only_field_of_text_or_whole_numbers_names_the_class(write_geojson):
    path = write_geojson(({"area": 3.5, "crop": " sugar \n beet "}, "Point", [1, 1]))
    assert read_shapes(path, pixels=True).shapes[0].value == "sugar beet"
    path = write_geojson(({"area": 3.5, "code": 4}, "Point", [1, 1]), ({"area": 1, "code": None}, "Point", [2, 2]))
    assert [shape.value for shape in read_shapes(path, pixels=True).shapes] == [4, None]


def test_several_fields_that_could_name_the_class_are_listed(write_geojson):
    path = write_geojson(({"id": 11, "crop": "beet", "area": 3.5}, "Point", [1, 1]))
    with pytest.raises(InputError, match=r"--class-field: id \(11, …\); crop \(beet, …\)"):
        read_shapes(path, pixels=True)
    assert read_shapes(path, pixels=True, class_field="crop").shapes[0].value == "beet"
    with pytest.raises(InputError, match="no field 'klass'; its fields: id"):
        read_shapes(path, pixels=True, class_field="klass")
    with pytest.raises(InputError, match="the field 'area' is float64; text or whole numbers"):
        read_shapes(path, pixels=True, class_field="area")


def test_shapes_without_a_field_are_refused(write_geojson):
    path = write_geojson(({}, "Point", [1, 1]))
    with pytest.raises(InputError, match="no field of text or whole numbers could name the class; it has no fields"):
        read_shapes(path, pixels=True)


def test_what_is_no_file_of_shapes_is_refused(tmp_path):
    path = tmp_path / "shapes.geojson"
    with pytest.raises(InputError, match="no such file"):
        read_shapes(path)
    path.write_text("not JSON at all")
    with pytest.raises(InputError, match="cannot be read as a file of shapes"):
        read_shapes(path)
    with pytest.raises(InputError, match="'EPSG:none' is no coordinate system"):
        read_shapes(path, crs="EPSG:none")
    with pytest.raises(InputError, match="give --pixels or --crs, not both"):
        read_shapes(path, crs="EPSG:4326", pixels=True)
