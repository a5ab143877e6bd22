"""A program that feeds lines gets what `hyperline run` would have written."""

from dataclasses import replace

import numpy as np
import pytest

import hyperline
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip


@pytest.fixture
def classifier(bundle_file):
    return hyperline.open_bundle(bundle_file, threads=1)


def flown(classifier, scene, folder):
    run_strip(classifier.bundle, SceneSource(replace(scene, labels=None)), folder, threads=1, feed=False)
    return [
        np.fromfile(folder / f"{name}.img", dtype).reshape(scene.lines, scene.samples)
        for name, dtype in (("classes", np.uint8), ("confidence", "<f4"))
    ]


def test_a_scene_is_classified_as_it_would_be_in_flight(classifier, scene, tmp_path):
    labels, confidence = flown(classifier, scene, tmp_path)
    found = classifier.classify(scene)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.confidence, confidence)
    assert found.class_names == classifier.card.class_names
    assert found.uncertainty.shape == labels.shape and 0 < found.uncertainty.max() <= 1


def test_lines_give_labels_with_the_last_line_of_their_block(classifier, scene):
    expected = classifier.classify(scene)
    blocks = []
    with classifier.stream(scene.samples, nodata=scene.nodata) as stream:
        for number, line in enumerate(scene.cube, 1):
            block = stream.feed(line)
            assert (block is not None) == (number % stream.block_lines == 0)
            assert stream.pending == number % stream.block_lines
            blocks += [block] if block else []
        blocks.append(stream.finish())
    assert [block.first_line for block in blocks] == list(range(0, scene.lines, 4))
    assert len(blocks[-1].labels) == scene.lines % 4
    np.testing.assert_array_equal(np.concatenate([block.labels for block in blocks]), expected.labels)


def test_what_a_block_holds_is_the_callers(classifier, scene):
    with classifier.stream(scene.samples, nodata=scene.nodata) as stream:
        blocks = [block for line in scene.cube[:8] if (block := stream.feed(line))]
    first = classifier.classify(replace(scene, cube=scene.cube[:4]))
    np.testing.assert_array_equal(blocks[0].labels, first.labels)


def test_a_lost_line_keeps_its_place_and_the_state_is_held(classifier, scene, tiny):
    cube = scene.cube.copy()
    cube[5] = -1  # without a measurement, as a lost one is
    expected, _ = tiny.expected_map(cube, 4)
    with classifier.stream(scene.samples, nodata=-1) as stream:
        blocks = [stream.skip() if number == 5 else stream.feed(line) for number, line in enumerate(scene.cube)]
        blocks.append(stream.finish())
    labels = np.concatenate([block.labels for block in blocks if block])
    np.testing.assert_array_equal(labels, expected)
    assert not labels[5].any()


def test_after_the_end_of_a_strip_the_next_knows_nothing_of_it(classifier, scene):
    with classifier.stream(scene.samples, nodata=scene.nodata) as stream:

        def fly():
            return np.concatenate([b.labels for b in (*map(stream.feed, scene.cube), stream.finish()) if b])

        first, second = fly(), fly()
    np.testing.assert_array_equal(first, second)


def test_a_strip_without_a_line_has_no_last_block(classifier):
    with classifier.stream(13) as stream:
        assert stream.finish() is None


@pytest.mark.parametrize("line", [np.zeros((13, 4)), np.zeros((12, 5)), np.zeros(13), np.zeros((13, 5), "U1")])
def test_a_line_of_another_size_is_refused_and_changes_nothing(classifier, scene, line):
    with classifier.stream(scene.samples, nodata=scene.nodata) as stream:
        stream.feed(scene.cube[0])
        with pytest.raises(hyperline.InputError, match="13 samples × 5 bands"):
            stream.feed(line)
        assert stream.pending == 1


def test_a_closed_stream_says_so(classifier):
    with classifier.stream(13) as stream:
        pass
    for call in (lambda: stream.feed(np.zeros((13, 5))), stream.skip, stream.finish):
        with pytest.raises(hyperline.HyperlineError, match="the stream is closed"):
            call()


def test_a_flipped_bit_in_the_state_is_mended(classifier, scene):
    expected = classifier.classify(scene).labels
    with classifier.stream(scene.samples, nodata=scene.nodata) as stream:
        blocks = []
        for line in scene.cube:
            blocks.append(stream.feed(line))
            stream._chain.engine.state.view(np.uint32)[3] ^= 1 << 30
        stream._chain.engine.state.view(np.uint32)[3] ^= 1 << 30  # twice is none
        blocks.append(stream.finish())
    np.testing.assert_array_equal(np.concatenate([b.labels for b in blocks if b]), expected)


def test_other_bands_are_refused(classifier, scene):
    with pytest.raises(hyperline.InputError, match="has 4 bands, the model tiny takes 5"):
        classifier.classify(replace(scene, cube=scene.cube[..., :4], wavelengths_nm=None))


def test_a_precision_that_is_not_there_is_refused(bundle_file):
    with pytest.raises(hyperline.InputError, match="has no int8 model"):
        hyperline.open_bundle(bundle_file, precision="int8")


def test_progress_is_told_by_lines(classifier, scene):
    told = []
    classifier.classify(scene, told.append)
    assert told == [4, 8, 12, 16, 20, 22]
