import pytest

from pyg_bgformer.errors import InputError
from pyg_bgformer.registry import REQUIRED, Option, Registry, signature_options


class Part:
    def __init__(self, labels: list[int], *, seed: int, size: int, flip: bool = True) -> None: ...


def test_a_registered_part_is_found_by_name():
    parts: Registry[type] = Registry("part")
    assert parts.register("one")(Part) is Part
    assert parts.find("one") is Part
    assert list(parts) == ["one"]
    assert "two" not in parts


def test_an_unknown_name_is_one_line_with_the_nearest_one():
    parts: Registry[type] = Registry("part")
    parts.register("plain")(Part)
    with pytest.raises(InputError, match=r"^unknown part 'plian'; did you mean 'plain'\?$"):
        parts.find("plian")


def test_a_name_is_given_once():
    parts: Registry[type] = Registry("part")
    parts.register("one")(Part)
    with pytest.raises(InputError, match="exists already"):
        parts.register("one")(Part)


def test_options_are_keyword_only_arguments_that_are_not_given():
    assert signature_options(Part, given=("seed",)) == {
        "size": Option(int, REQUIRED),
        "flip": Option(bool, True),
    }
