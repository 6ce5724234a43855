"""Sphere and Poincare ball against the formulas, in plain Python numbers."""

import math

import pytest
import torch
from torch import Tensor

from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import GEOMETRIES, PoincareBall, Sphere, geometry_options

CURVATURES = [0.01, 0.1, 1.0]
EDGE = 1 - 1e-3
"""Radius of the ball's usable part, in radii of the ball."""


def points(rows: int, channels: int = 5, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, channels, generator=generator, dtype=torch.float64)


def inside(c: float, seed: int = 0) -> Tensor:
    """Points of the ball, some on the edge of its usable part, one the centre."""
    x = points(8, seed=seed)
    radii = torch.tensor([0.0, 1e-4, 0.1, 0.5, 0.9, 0.99, EDGE, EDGE], dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True) * radii[:, None] / math.sqrt(c)


def length(x: list[float]) -> float:
    return math.sqrt(math.fsum(a * a for a in x))


def moebius_distance(x: list[float], y: list[float], c: float) -> float:
    """2 / sqrt(c) artanh(sqrt(c) |(-x) (+) y|)."""
    xx, yy = math.fsum(a * a for a in x), math.fsum(b * b for b in y)
    xy = -math.fsum(a * b for a, b in zip(x, y, strict=True))
    below = 1 + 2 * c * xy + c * c * xx * yy
    total = [((1 + 2 * c * xy + c * yy) * -a + (1 - c * xx) * b) / below for a, b in zip(x, y, strict=True)]
    return 2 / math.sqrt(c) * math.atanh(math.sqrt(c) * length(total))


def naive_projection(x: list[float], c: float, clip_radius: float) -> list[float]:
    cut = min(1.0, clip_radius / (length(x) + 1e-5))
    x = [a * cut for a in x]
    norm = math.sqrt(c) * max(length(x), 1e-5)
    x = [math.tanh(min(norm, 15.0)) * a / norm for a in x]
    edge = EDGE / math.sqrt(c)
    return [a * edge / length(x) for a in x] if length(x) > edge else x


@pytest.mark.parametrize("c", CURVATURES)
def test_distance_equals_the_moebius_form(c: float) -> None:
    x, y = inside(c), inside(c, seed=1)
    expected = [[-moebius_distance(a, b, c) for b in y.tolist()] for a in x.tolist()]
    ours = PoincareBall(c=c).similarity(x, y)
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("c", CURVATURES)
def test_distance_in_float32_is_that_of_float64(c: float) -> None:
    x, y = inside(c), inside(c, seed=1)
    exact = PoincareBall(c=c).similarity(x, y)
    ours = PoincareBall(c=c).similarity(x.float(), y.float())
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), exact, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("radius", [0.0, 0.5, EDGE])
def test_close_points_keep_their_digits(radius: float) -> None:
    c = 0.1
    x = torch.tensor([[radius, 0.0]], dtype=torch.float64) / math.sqrt(c)
    y = x + torch.tensor([[0.0, 1e-4]], dtype=torch.float64)
    expected = moebius_distance(x[0].tolist(), y[0].tolist(), c)
    ours = -PoincareBall(c=c).similarity(x.float(), y.float()).item()
    assert ours == pytest.approx(expected, rel=1e-3)


def test_it_is_a_metric() -> None:
    x = inside(0.1)
    distance = -PoincareBall(c=0.1).similarity(x, x)
    torch.testing.assert_close(distance, distance.t())
    assert (distance.diagonal() == 0).all()
    assert (distance[:, None, :] <= distance[:, :, None] + distance[None] + 1e-9).all()


def test_small_curvature_tends_to_twice_the_straight_distance() -> None:
    x, y = points(3), points(4, seed=1)
    torch.testing.assert_close(
        PoincareBall(c=1e-8).similarity(x, y), -2 * torch.cdist(x, y), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize(("c", "clip_radius"), [(0.01, 100.0), (0.1, 2.3), (1.0, 0.5), (1.0, 100.0)])
def test_projection_equals_the_formula(c: float, clip_radius: float) -> None:
    x = torch.cat([points(4, scale=scale) for scale in (1e-7, 1e-2, 1.0, 5.0, 300.0)])
    x[0] = 0.0
    ball = PoincareBall(c=c, clip_radius=clip_radius)
    expected = torch.tensor(
        [naive_projection(row, c, clip_radius) for row in x.tolist()], dtype=torch.float64
    )
    torch.testing.assert_close(ball.project(x), expected, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(ball.project(x.float()).double(), expected, atol=1e-6, rtol=1e-5)
    assert ball.project(x.view(2, 10, 5)).shape == (2, 10, 5)


@pytest.mark.parametrize(
    ("clip_radius", "dtype"), [(2.3, torch.float32), (1e4, torch.float32), (1e4, torch.float16)]
)
def test_values_and_gradients_are_finite_everywhere(clip_radius: float, dtype: torch.dtype) -> None:
    x = torch.cat([torch.zeros(2, 5), points(3, scale=1e-6), points(3), points(4, scale=1e3)]).to(dtype)
    x[-1] = x[-2]  # two at one point of the edge, two at the centre
    x.requires_grad_()
    ball = PoincareBall(c=0.1, clip_radius=clip_radius)
    similarity = ball.similarity(ball.project(x), ball.project(x))
    assert similarity.isfinite().all()
    assert (similarity <= 0).all()
    (similarity * points(12, 12).to(similarity.dtype)).sum().backward()
    assert x.grad.dtype == dtype
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("beyond", [1.0, 1 + 1e-6])
def test_points_rounded_onto_the_edge_stay_finite(beyond: float) -> None:
    x = torch.tensor([[beyond, 0.0], [0.0, beyond], [0.0, 0.0]], requires_grad=True)
    similarity = PoincareBall(c=1.0).similarity(x, x)
    similarity.sum().backward()
    assert similarity.isfinite().all()
    assert x.grad.isfinite().all()


def test_gradient_equals_finite_differences() -> None:
    x, y = points(4).requires_grad_(), points(3, seed=1).requires_grad_()
    ball = PoincareBall(c=0.1)
    assert torch.autograd.gradcheck(ball.project, (x,))
    assert torch.autograd.gradcheck(lambda x, y: ball.similarity(ball.project(x), ball.project(y)), (x, y))


@pytest.mark.parametrize("geometry", [Sphere(), PoincareBall()])
def test_half_precision_is_computed_in_float32(geometry: Sphere | PoincareBall) -> None:
    dtype = torch.bfloat16
    x, y = points(6).to(dtype), points(7, seed=1).to(dtype)
    exact = geometry.similarity(geometry.project(x.float()), geometry.project(y.float()))
    with torch.autocast("cpu", dtype=dtype):
        cast = geometry.similarity(geometry.project(x), geometry.project(y))
    assert cast.dtype == torch.float32
    assert torch.equal(cast, exact)
    assert torch.equal(geometry.similarity(x, y), geometry.similarity(x.float(), y.float()))


def test_sphere_equals_loops() -> None:
    x, y = points(4), points(3, seed=1)
    expected = [
        [sum(p * q for p, q in zip(a, b, strict=True)) / length(a) / length(b) for b in y.tolist()]
        for a in x.tolist()
    ]
    ours = Sphere().similarity(Sphere().project(x), Sphere().project(y))
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64))


def test_sphere_leaves_zero_at_zero() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    out = Sphere().project(x)
    out.sum().backward()
    assert (out == 0).all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("options", [{"c": 0.0}, {"c": -0.1}, {"clip_radius": 0.0}])
def test_wrong_options_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match="must be above 0"):
        PoincareBall(**options)


def test_a_recipe_finds_them_with_their_options() -> None:
    assert GEOMETRIES.find("sphere")() == Sphere()
    assert geometry_options("sphere") == {}
    options = {name: option.default for name, option in geometry_options("poincare").items()}
    assert options == {"c": 0.1, "clip_radius": 2.3}
    assert isinstance(GEOMETRIES.find("poincare")(c=0.5), PoincareBall)
