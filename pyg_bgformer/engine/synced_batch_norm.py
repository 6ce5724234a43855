"""BatchNorm over the images of all processes."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pyg_bgformer.engine.processes import Processes


class SyncedBatchNorm(TorchFunctionMode):
    """A context in which every BatchNorm in training mode normalises over the images of all processes.

    Modules of any class stay unchanged, and so do their states in checkpoints and saved encoders. Each process gets
    the gradients of scale and shift for its own images, as for all other parameters.

    Args:
        processes: The processes of the run. Each one encodes its own images in such a context.
    """

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self.processes = processes

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls a function of torch, or :meth:`batch_norm` instead of torch's."""
        if func is F.batch_norm:
            return self.batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Replaces :func:`torch.nn.functional.batch_norm` and takes the same arguments."""
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        out, mean, var, count = _Normalise.apply(input, weight, bias, eps, self.processes)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var), momentum)
        normalised: Tensor = out
        return normalised


class _Normalise(torch.autograd.Function):
    """Normalises ``(n, C, ...)`` of each process by the mean and the variance over all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, processes: Processes
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x if x.dtype == torch.float64 else x.float()
        dims, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
        sums, count = wide.sum(dims), wide.new_tensor([x.numel() / x.size(1)])
        processes.sum([sums, count])
        mean = sums / count
        squares = (wide - mean.view(shape)).square().sum(dims)
        processes.sum([squares])
        var = squares / count
        inverse = (var + eps).rsqrt()
        out = (wide - mean.view(shape)) * inverse.view(shape)
        if weight is not None and bias is not None:
            out = out * weight.view(shape) + bias.view(shape)
        ctx.save_for_backward(x, weight, mean, inverse, count)
        ctx.processes = processes
        ctx.mark_non_differentiable(mean, var, count)
        return out.to(x.dtype), mean, var, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        dims, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
        wide = gradient.to(mean.dtype)
        normalised = (x.to(mean.dtype) - mean.view(shape)) * inverse.view(shape)
        of_bias, of_weight = wide.sum(dims), (wide * normalised).sum(dims)
        means, slopes = of_bias.clone(), of_weight.clone()
        ctx.processes.sum([means, slopes])
        scale = inverse if weight is None else inverse * weight
        centred = wide - (means / count).view(shape) - normalised * (slopes / count).view(shape)
        of_input = (centred * scale.view(shape)).to(x.dtype)
        if weight is None:
            return of_input, None, None, None, None
        return of_input, of_weight.to(weight), of_bias.to(weight), None, None
