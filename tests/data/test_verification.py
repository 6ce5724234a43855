import numpy as np

from pyg_bgformer.data import SplitCount, Verification
from pyg_bgformer.data.verification import Coverage


def report(**changes: object) -> str:
    values = {
        "name": "birds",
        "where": "/photos",
        "found": {"train": SplitCount(2, 1000), "test": SplitCount(2, 20)},
        "expected": {"train": SplitCount(2, 1000), "test": SplitCount(2, 20)},
        "decoded": 1020,
    }
    return str(Verification(**{**values, **changes}))


def test_report_of_a_complete_dataset():
    assert report().splitlines() == [
        "birds (/photos): complete",
        "  in all: 4 of 4 classes, 1,020 of 1,020 images",
        "  train: 2 of 2 classes, 1,000 of 1,000 images",
        "  test: 2 of 2 classes, 20 of 20 images",
        "  train and test share no class",
        "  every image decodes to RGB (1,020 of 1,020)",
    ]


def test_report_of_what_is_wrong():
    lines = report(decoded=1019, shared_classes=("owl",), problems=["owl.jpg: damaged"]).splitlines()
    assert lines[0] == "birds (/photos): NOT as expected"
    assert lines[-3:] == [
        "  train and test share classes: owl",
        "  NOT every image decodes to RGB (1,019 of 1,020)",
        "  problem: owl.jpg: damaged",
    ]


def test_report_without_official_numbers_and_without_decoding():
    lines = report(expected={}, decoded=None).splitlines()
    assert "  train: 2 classes, 1,000 images" in lines
    assert not any("decodes" in line for line in lines)


def test_a_split_that_is_missing_counts_as_nothing():
    assert "  test: 0 of 2 classes, 0 of 20 images" in report(found={"train": SplitCount(2, 1000)})


def test_classes_of_query_and_gallery_count_once():
    found = {"train": SplitCount(5, 50), "query": SplitCount(3, 9), "gallery": SplitCount(3, 10)}
    assert "  in all: 8 classes, 69 images" in report(found=found, expected={}, decoded=None)


def test_coverage_counts_the_classes_that_are_too_small_for_a_batch():
    coverage = Coverage.of(np.array([2, 3, 4, 7, 8, 2000]))
    assert coverage == Coverage(2, 5.5, 2000, {2: 0, 4: 2, 5: 3, 8: 4, 16: 5})
    assert str(coverage) == (
        "2 to 2,000 images per class, median 5.5; "
        "classes with fewer than K images: 2 (K = 4), 3 (K = 5), 4 (K = 8), 5 (K = 16)"
    )
    assert str(Coverage.of(np.array([20, 20]))).endswith("fewer than K images: none up to K = 16")


def test_report_has_the_coverage_of_each_split():
    coverage = Coverage.of(np.array([500, 500]))
    assert f"  train: {coverage}" in report(coverage={"train": coverage}).splitlines()
