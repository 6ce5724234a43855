from dataclasses import fields
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest

from pyg_bgformer.config.recipe import SECTIONS
from pyg_bgformer.config.schema import Component, DataConfig, EvaluationConfig, ProtocolConfig, TrainConfig
from pyg_bgformer.errors import InputError
from pyg_bgformer.registry import signature_options

OUTSIDE = [
    (TrainConfig, {"epochs": 0}),
    (TrainConfig, {"lr": float("inf")}),
    (TrainConfig, {"lr": float("nan")}),
    (TrainConfig, {"momentum": 1.5}),
    *[
        (TrainConfig, {key: -1.0})
        for key in ("lr", "head_lr", "loss_lr", "weight_decay", "gamma", "clip_norm", "warmup_epochs")
    ],
    (TrainConfig, {"clip_norm": None, "clip_value": -1.0}),
    (TrainConfig, {"milestones": (0,)}),
    (DataConfig, {"image_noise": -0.1}),
    (DataConfig, {"label_noise": 40.0}),
    (DataConfig, {"workers": -1}),
    (DataConfig, {"crop_scale": (0.2, 1.1)}),
    (EvaluationConfig, {"recall_at": (0,)}),
    (EvaluationConfig, {"batch_size": 0}),
    (ProtocolConfig, {"every": 0}),
]


@pytest.mark.parametrize(("section", "values"), OUTSIDE)
def test_a_number_outside_of_its_range_is_named_by_its_key(section, values):
    with pytest.raises(InputError, match=rf"^{section.title()}\.{[*values][-1]}: expected .*found"):
        section(**values)


def bare_numbers(kind):
    """The parts of a type that are numbers without a range."""
    if kind in (int, float):
        return [kind]
    return (
        []
        if get_origin(kind) is Annotated
        else [bare for part in get_args(kind) for bare in bare_numbers(part)]
    )


@pytest.mark.parametrize("section", SECTIONS.values())
def test_every_number_has_a_range(section):
    hints = get_type_hints(section, include_extras=True)
    assert not {key: bare_numbers(kind) for key, kind in hints.items() if bare_numbers(kind)}


@pytest.mark.parametrize("section", SECTIONS.values())
def test_every_key_is_explained(section):
    options = signature_options(section)
    assert options.keys() == {item.name for item in fields(section)}
    assert all(option.help for option in options.values())


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        (TrainConfig, {"clip_norm": 1.0, "clip_value": 1.0}, "set the other to null"),
        (TrainConfig, {"epochs": 3, "warmup_epochs": 3}, "would never be trained"),
        (DataConfig, {"image_size": 64, "resize": 32}, "data.resize"),
        (DataConfig, {"cache_size": 100}, "data.cache_size"),
        (DataConfig, {"crop_ratio": (2.0, 1.0)}, "data.crop_ratio"),
        (EvaluationConfig, {"recall_at": ()}, "an empty list"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(section, values, words):
    with pytest.raises(InputError, match=words):
        section(**values)


def test_a_component_with_other_options_is_another_component():
    part = Component("classes", {"classes": 20, "samples": 5})
    assert part.changed(samples=4) == Component("classes", {"classes": 20, "samples": 4})
    assert part.options["samples"] == 5
