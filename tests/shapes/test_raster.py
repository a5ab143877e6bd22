from __future__ import annotations

import numpy as np
import pytest

from hyperline.errors import InputError

shapely = pytest.importorskip("shapely", reason="needs shapely, of hyperline[geo]")
pytest.importorskip("rasterio", reason="needs rasterio, of hyperline[geo]")

from hyperline.shapes import Shape, Shapes, rasterise  # noqa: E402

SIZE = (12, 20)


def rectangle(value, left, top, right, bottom):
    return Shape(value, shapely.box(left, top, right, bottom))


def made(*shapes, **options):
    return rasterise(Shapes(shapes, None), SIZE, None, **options)


def test_a_polygon_labels_the_pixels_whose_middle_it_holds():
    labels = made(rectangle("grass", 2, 3, 5, 7)).labels
    expected = np.zeros(SIZE, np.uint8)
    expected[3:7, 2:5] = 1
    np.testing.assert_array_equal(labels, expected)


def test_touched_takes_every_pixel_that_a_polygon_reaches():
    shape = rectangle("grass", 2.6, 3.6, 4.4, 5.4)
    assert np.count_nonzero(made(shape).labels) == 1
    labels = made(shape, touched=True).labels
    assert np.count_nonzero(labels) == 9
    assert labels[3:6, 2:5].all()


@pytest.mark.parametrize("x, y", [(4, 6), (4.5, 6.5), (4.999, 6.001)])
def test_a_point_labels_its_pixel(x, y):
    labels = made(Shape("grass", shapely.Point(x, y))).labels
    assert np.argwhere(labels).tolist() == [[6, 4]]


def test_a_line_labels_what_it_crosses():
    labels = made(Shape("road", shapely.LineString([(1.5, 4.5), (6.5, 4.5)]))).labels
    assert np.argwhere(labels).tolist() == [[4, x] for x in range(1, 7)]


def test_a_hole_is_left_out():
    ring = shapely.Polygon(shapely.box(1, 1, 9, 9).exterior, [shapely.box(3, 3, 6, 6).exterior])
    labels = made(Shape("wood", ring)).labels
    assert np.count_nonzero(labels) == 64 - 9
    assert not labels[3:6, 3:6].any()


def test_several_parts_are_one_shape():
    parts = shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(10, 10, 12, 12)])
    found = made(Shape("wood", parts))
    assert found.shapes == (1,)
    assert found.pixels == (8,)


def test_pixels_in_shapes_of_two_classes_are_unlabelled_and_counted():
    found = made(rectangle("a", 0, 0, 6, 4), rectangle("b", 4, 0, 9, 4), rectangle("a", 0, 0, 6, 4))
    assert found.overlapping == 8
    assert not found.labels[0:4, 4:6].any()
    assert found.pixels == (16, 12)


def test_shapes_of_one_class_may_overlap():
    found = made(rectangle("a", 0, 0, 6, 4), rectangle("a", 4, 0, 9, 4))
    assert found.overlapping == 0
    assert found.pixels == (36,)


def test_three_classes_on_one_pixel_are_one_pixel_in_dispute():
    found = made(*(rectangle(name, 0, 0, 3, 3) for name in "abc"), rectangle("a", 5, 5, 6, 6))
    assert found.overlapping == 9
    assert found.pixels == (1, 0, 0)


def test_shapes_outside_and_beyond_the_scene_are_counted():
    found = made(
        rectangle("a", 18, 10, 25, 15),
        rectangle("a", 30, 0, 40, 5),
        rectangle("b", -9, -9, -2, -2),
        rectangle("b", 0, 0, 1, 1),
    )
    assert (found.outside, found.beyond) == (2, 1)
    assert found.shapes == (2, 2)
    assert found.pixels == (4, 1)
    assert found.labels[10:, 18:].all()


def test_a_shape_whose_corners_alone_reach_the_scene_is_outside():
    around = shapely.Polygon(shapely.box(-5, -5, 40, 40).exterior, [shapely.box(-1, -1, 21, 13).exterior.coords])
    found = made(Shape("a", around), rectangle("a", 0, 0, 1, 1))
    assert found.outside == 1


def test_shapes_too_small_to_hold_a_pixel_are_counted():
    found = made(rectangle("a", 0.1, 0.1, 0.3, 0.3), rectangle("a", 4, 4, 6, 6))
    assert found.missed == 1


def test_shapes_without_a_class_or_a_geometry_are_counted():
    found = made(
        Shape(None, shapely.box(0, 0, 9, 9)),
        Shape("a", None),
        Shape("a", shapely.Polygon()),
        rectangle("a", 1, 1, 2, 2),
    )
    assert (found.unnamed, found.empty) == (1, 2)
    assert found.shapes == (1,)


def test_classes_by_name_are_numbered_in_the_order_of_their_names():
    found = made(rectangle("water", 0, 0, 1, 1), rectangle("asphalt", 2, 0, 3, 1), rectangle("grass", 4, 0, 5, 1))
    assert found.class_names == ("asphalt", "grass", "water")
    assert found.labels[0, [0, 2, 4]].tolist() == [3, 1, 2]


def test_numbers_of_classes_stay_and_0_is_no_class():
    found = made(rectangle(3, 0, 0, 1, 1), rectangle(1, 2, 0, 3, 1), rectangle(0, 4, 0, 5, 1))
    assert found.labels[0, [0, 2, 4]].tolist() == [3, 1, 0]
    assert found.class_names == ("class 1", "class 2", "class 3")
    assert found.unnamed == 1


def test_numbers_above_255_become_names():
    found = made(rectangle(4120, 0, 0, 1, 1), rectangle(311, 2, 0, 3, 1))
    assert found.class_names == ("311", "4120")
    assert found.labels[0, [0, 2]].tolist() == [2, 1]


def test_more_classes_than_a_label_map_holds_are_refused():
    with pytest.raises(InputError, match="256 classes, the most is 255"):
        made(*(rectangle(f"field {number}", 0, 0, 1, 1) for number in range(256)))


@pytest.mark.parametrize(
    "shape, message",
    [
        (rectangle("a", 30, 30, 40, 40), "no pixel gets a label: of 1 shapes with a class 1 lie outside"),
        (rectangle("a", 0.1, 0.1, 0.2, 0.2), "1 are too small"),
        (rectangle(None, 0, 0, 5, 5), "none of the 1 shapes has a class"),
    ],
)
def test_shapes_that_label_nothing_are_refused(shape, message):
    with pytest.raises(InputError, match=message):
        made(shape)


def test_shapes_of_another_image_are_refused():
    shapes = Shapes((rectangle("a", 0, 0, 5, 5),), None, (100, 200))
    with pytest.raises(InputError, match="drawn on 100 lines × 200 samples, the scene is 12 × 20"):
        rasterise(shapes, SIZE, None)
