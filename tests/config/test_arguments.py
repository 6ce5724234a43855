import pytest

from pyg_bgformer.config.arguments import help_text
from pyg_bgformer.data import SAMPLERS, sampler_options
from pyg_bgformer.encoders import encoder_options
from pyg_bgformer.geometry import GEOMETRIES, geometry_options
from pyg_bgformer.losses import LOSSES, loss_options
from pyg_bgformer.methods import METHODS, method_options
from pyg_bgformer.registry import Option

PARTS = {
    **{f"method {name}": method_options(name) for name in METHODS},
    **{f"loss {name}": loss_options(name) for name in LOSSES},
    **{f"sampler {name}": sampler_options(name) for name in SAMPLERS},
    **{f"geometry {name}": geometry_options(name) for name in GEOMETRIES},
    "encoder": encoder_options("conv4"),
}


def test_help_has_no_marks_of_docstrings():
    option = Option(float, 0.2, r"Temperature :math:`\tau` of ``softmax``, see :class:`~a.Loss`.")
    assert help_text(option) == "Temperature tau of softmax, see a.Loss."


@pytest.mark.parametrize("part", PARTS)
def test_every_option_of_a_part_is_explained(part):
    for name, option in PARTS[part].items():
        text = help_text(option)
        assert text.endswith("."), f"{name}: {text}"
        assert not text.startswith("See "), f"{name}: {text}"
        assert "(default" not in text, f"{name}: {text}"
