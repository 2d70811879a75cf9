"""One small module for every operator with a rule, latents [B, 6] in."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Lambda(nn.Module):
    """``forward(z, lifted)`` with lifted a trained linear map of z in a wanted shape."""

    def __init__(self, shape: tuple[int, ...], forward: Callable[..., Tensor], *weights: tuple[int, ...]):
        super().__init__()
        self.shape, self.function = shape, forward
        self.lift = nn.Linear(6, torch.Size(shape).numel())
        self.weights = nn.ParameterList(torch.randn(w) for w in weights)

    def forward(self, z: Tensor) -> Tensor:
        return self.function(self.lift(z).reshape(-1, *self.shape), *self.weights)


def image(forward: Callable[..., Tensor], *weights: tuple[int, ...]) -> Callable[[], nn.Module]:
    return lambda: Lambda((4, 6, 6), forward, *weights)


def rows(forward: Callable[..., Tensor], *weights: tuple[int, ...]) -> Callable[[], nn.Module]:
    return lambda: Lambda((5, 4), forward, *weights)


def layer(shape: tuple[int, ...], make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A torch layer with weights and buffers of its own behind the lift."""

    def build() -> nn.Module:
        inner = make()
        for name, value in [*inner.named_parameters(), *inner.named_buffers()]:
            if value.is_floating_point():
                # Variances must be positive; nothing may be the one or zero it starts as.
                value.data.uniform_(0.5, 1.5) if "var" in name else value.data.normal_()
        return nn.Sequential(nn.Linear(6, torch.Size(shape).numel()), nn.Unflatten(1, shape), inner)

    return build


POINTWISE = {
    name: rows(function)
    for name, function in {
        "relu": F.relu,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "silu": F.silu,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "elu": F.elu,
        "selu": F.selu,
        "softplus": F.softplus,
        "mish": F.mish,
        "hardtanh": F.hardtanh,
        "hardswish": F.hardswish,
        "hardsigmoid": F.hardsigmoid,
        "celu": lambda x: F.celu(x, 0.7),
        "log_sigmoid": F.logsigmoid,
        "glu": F.glu,
        "sin": torch.sin,
        "exp": torch.exp,
        "log": lambda x: torch.log(x.square() + 1),
        "sqrt": lambda x: torch.sqrt(x * x + 1),
        "rsqrt": lambda x: torch.rsqrt(x * x + 1),
        "reciprocal": lambda x: 1 / (2 + x.square()),
        "power": lambda x: (x.abs() + 1) ** 1.5,
        "power_of_tensor": lambda x: (x.abs() + 1) ** x,
        "product": lambda x: x * x.flip(1),
        "product_broadcast": lambda x: x * x[:, :1],
        "quotient": lambda x: x / (x.flip(1).square() + 1),
        "difference": lambda x: 3 - x + (x - x[:, :, :1]) - 2 * x.roll(1, 1),
        "alpha": lambda x: torch.add(x, x.flip(2), alpha=0.3),
        "negated": lambda x: -x,
        "clamp": lambda x: x.clamp(-0.5, 0.5),
        "clamp_tensor": lambda x: torch.clamp(x, x.flip(1) - 0.1, x.flip(1) + 0.1),
        "where": lambda x: torch.where(x > 0, x * 2, x.flip(1)),
        "maximum": lambda x: torch.maximum(x, x.flip(1)),
        "masked_fill": lambda x: x.masked_fill(x > 0.3, 0.0),
        "lerp": lambda x: torch.lerp(x, x.flip(1), torch.sigmoid(x)),
        "addcmul": lambda x: torch.addcmul(x, x.flip(1), x.flip(2), value=0.5),
        "floor_is_flat": lambda x: x + x.floor(),
        "detached": lambda x: x * x.detach(),
        "shallow_square": lambda x: x.pow(2).abs(),
        "chained_scales": lambda x: torch.tanh(F.relu(x * 0.7) * 3.0 - 0.1),
    }.items()
}

SHAPES = {
    name: image(function)
    for name, function in {
        "permute": lambda x: x.permute(0, 2, 3, 1).transpose(1, 2),
        "batch_inside": lambda x: x.flatten(1).t().reshape(9, 16, -1).permute(2, 0, 1),
        "slices": lambda x: x[:, 1:3, ::2] + x[:, :2, :3],
        "select": lambda x: x[:, 2] - x[:, :, 1][:, -1:],
        "cat": lambda x: torch.cat([x, torch.ones_like(x[:, :1]), x[:, :2]], 1),
        "stack": lambda x: torch.stack([x[:, 0], x[:, 3].square()], 1),
        "chunks": lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1],
        "one_chunk": lambda x: x.chunk(2, 2)[1],
        "unbind": lambda x: x.unbind(1)[0] + x.unbind(1)[2],
        "expand": lambda x: x[:, :, :1].expand(-1, -1, 3, -1).tanh(),
        "repeat": lambda x: x.repeat(1, 2, 1, 3),
        "repeat_interleave": lambda x: x.repeat_interleave(2, 3),
        "pad": lambda x: F.pad(x, (1, 2, 0, 1)),
        "crop": lambda x: F.pad(x, (-1, 2, 1, -2)),
        "reflect": lambda x: F.pad(x, (1, 1, 2, 0), mode="reflect"),
        "reflect_rows": lambda x: F.pad(x.flatten(2), (3, 1), mode="reflect"),
        "replicate": lambda x: F.pad(x, (2, 1, 0, 3), mode="replicate"),
        "replicate_volume": lambda x: F.pad(x.unflatten(1, (2, 2)), (1, 0, 2, 1, 0, 1), mode="replicate"),
        "circular": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
        "flip": lambda x: x.flip([2, 3]),
        "roll": lambda x: x.roll((1, -2), (2, 3)),
        "unfold": lambda x: x.unfold(2, 3, 1),
        "diagonal": lambda x: x.diagonal(0, 2, 3),
        "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
        "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
        "index": lambda x: x[:, torch.tensor([3, 1, 1])],
        "index_two": lambda x: x[:, :, torch.tensor([0, 2, 2]), torch.tensor([1, 5, 5])],
        "index_apart": lambda x: x[:, torch.tensor([0, 2]), :, torch.tensor([1, 5])].movedim(0, 1),
        "index_select": lambda x: x.index_select(2, torch.tensor([5, 0, 0])),
        "gather": lambda x: x.gather(1, x.argsort(1)[:, :2]),
        "sort": lambda x: x.sort(1)[0],
        "topk": lambda x: x.topk(2, 3)[0],
        "tril": lambda x: x.tril(),
        "assigned": lambda x: _assigned(x),
        "in_place": lambda x: _in_place(x),
    }.items()
}  # fmt: skip


def _assigned(x: Tensor) -> Tensor:
    out = torch.zeros(x.shape[0], 4, 8, 6, dtype=x.dtype)
    out[:, :, 1:7] = x
    out[:, 0, 0] += x[:, 1, 2]
    return out


def _in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :2].mul_(x[:, 2:])
    return F.relu(y, inplace=True) + x


REDUCTIONS = {
    name: image(function)
    for name, function in {
        "sum": lambda x: x.sum((2, 3)),
        "sum_keepdim": lambda x: x - x.sum(1, keepdim=True),
        "mean": lambda x: x.mean((2, 3), keepdim=True) + x,
        "mean_one": lambda x: x.mean(-1),
        "variance": lambda x: x.var((2, 3)),
        "deviation": lambda x: x.std(1),
        "norm": lambda x: x / x.norm(dim=1, keepdim=True),
        "norm_of_all": lambda x: x.flatten(1).norm(dim=1),
        "norm_of_zeros": lambda x: x + (0 * x).norm(dim=(2, 3), keepdim=True),
        "normalised": lambda x: F.normalize(x, dim=1),
        "cumsum": lambda x: x.cumsum(2),
        "amax": lambda x: x.amax(1),
        "prod": lambda x: x[:, :, 0].prod(1),
        "logsumexp": lambda x: x.logsumexp(1),
        "logsumexp_of_two": lambda x: x.logsumexp((1, 3), keepdim=True) * x,
        "softmax": lambda x: x.softmax(1),
        "softmax_last": lambda x: x.softmax(-1),
        "log_softmax": lambda x: x.log_softmax(2),
    }.items()
}


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layers = kind(4, 3, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[0]


CONTRACTIONS = {
    "lstm": layer((5, 4), lambda: Recurrent(nn.LSTM)),
    "gru": layer((5, 4), lambda: Recurrent(nn.GRU)),
    "linear": rows(lambda x, w: F.linear(x, w), (3, 4)),
    "mm_of_both": lambda: Lambda((5,), lambda x: x * (x @ x.t()).diagonal()[:, None]),
    "weight_on_the_left": rows(lambda x, w: w @ x, (3, 5)),
    "bmm": rows(lambda x: x @ x.mT),
    "bmm_by_weight": rows(lambda x, w: torch.einsum("bij,jk,bkl->bil", x, w, x.mT), (4, 4)),
    "addmm": lambda: Lambda((5,), lambda x, w: torch.addmm(x, x, w, beta=0.5, alpha=2.0), (5, 5)),
    "baddbmm": rows(lambda x: torch.baddbmm(x, x @ x.mT, x, beta=0.3, alpha=0.2)),
    "matrix_vector": rows(lambda x, w: x @ w, (4,)),
    "outer": lambda: Lambda((3,), lambda x: torch.einsum("bi,bj->bij", x, x)),
    "attention": lambda: Lambda(
        (3, 2, 5, 4), lambda x: F.scaled_dot_product_attention(x[:, 0], x[:, 1], x[:, 2])
    ),
    "causal_attention": lambda: Lambda(
        (3, 2, 5, 4), lambda x: F.scaled_dot_product_attention(x[:, 0], x[:, 1], x[:, 2], is_causal=True)
    ),
}

_CONVOLUTIONS = {
    "3x3": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "strided": lambda: nn.Conv2d(4, 6, 3, stride=2),
    "strided_even": lambda: nn.Conv2d(4, 6, 4, stride=2, padding=1),
    "dilated": lambda: nn.Conv2d(4, 6, 3, dilation=2),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1),
    "pointwise": lambda: nn.Conv2d(4, 6, 1),
    "uneven": lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 1)),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 4, 2, 1),
    "transposed_same": lambda: nn.ConvTranspose2d(4, 6, 5),
    "transposed_few_channels": lambda: nn.ConvTranspose2d(4, 1, 8, 2),
    "transposed_output_padding": lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1),
    "transposed_dilated": lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, dilation=2, output_padding=1),
    "transposed_wide_padding": lambda: nn.ConvTranspose2d(4, 6, 3, 1, 1, dilation=2, output_padding=1),
    "transposed_grouped": lambda: nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2),
    "transposed_gaps": lambda: nn.ConvTranspose2d(4, 6, 2, 3),
}
CONVOLUTIONS = {f"conv2d_{name}": layer((4, 6, 6), make) for name, make in _CONVOLUTIONS.items()} | {
    "conv1d": layer((4, 9), lambda: nn.Conv1d(4, 6, 3, padding=1, stride=2)),
    "conv1d_transposed": layer((4, 9), lambda: nn.ConvTranspose1d(4, 6, 4, 2)),
    "conv3d": layer((2, 3, 4, 4), lambda: nn.Conv3d(2, 3, 3, padding=1)),
    "conv3d_transposed": layer((2, 3, 4, 4), lambda: nn.ConvTranspose3d(2, 3, 3, stride=2)),
    "conv2d_of_one_pixel": layer((8, 1, 1), lambda: nn.ConvTranspose2d(8, 6, 4)),
    "conv2d_of_one_pixel_cropped": layer((8, 1, 1), lambda: nn.ConvTranspose2d(8, 6, 4, 2, 1)),
    "conv2d_of_one_pixel_padded": layer((8, 1, 1), lambda: nn.Conv2d(8, 6, 3, padding=2)),
    "conv2d_modulated_weight": image(
        lambda x, w: (
            F.conv2d(x, (w * x.mean((0, 2, 3))[:, None, None]), padding=1)
            if x.shape[0] == 1
            else _each_with_its_weight(x, w)
        ),
        (6, 4, 3, 3),
    ),
    "conv_transpose2d_modulated_weight": image(lambda x, w: _each_transposed(x, w), (4, 6, 4, 4)),
    "conv2d_modulated_bias": image(
        lambda x, w: torch.cat([F.conv2d(one[None], w, one.mean((1, 2))[:3]) for one in x]), (3, 4, 3, 3)
    ),
    "folded_batch_norm": layer(
        (4, 6, 6),
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU()).eval(),
    ),
    "folded_batch_norm_transposed": layer(
        (4, 6, 6),
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), nn.BatchNorm2d(6), nn.LeakyReLU(0.2)
        ).eval(),
    ),
    "enlarged_3x3": layer(
        (4, 6, 6), lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 5, 3, 1, 1))
    ),
    "enlarged_exactly": layer(
        (4, 6, 6),
        lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest-exact"), nn.Conv2d(4, 5, 3, 1, 1)),
    ),
    "enlarged_grouped": layer(
        (4, 3, 4), lambda: nn.Sequential(nn.Upsample(scale_factor=(3, 2)), nn.Conv2d(4, 6, (2, 3), groups=2))
    ),
    "enlarged_1x1": layer((4, 6, 6), lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 5, 1))),
    "enlarged_strided": layer(
        (4, 6, 6), lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 5, 3, 2, 1))
    ),
    "enlarged_unevenly": layer(
        (4, 6, 6), lambda: nn.Sequential(nn.Upsample(size=(9, 7)), nn.Conv2d(4, 5, 3, padding=1))
    ),
    "fold_backwards": image(lambda x: F.fold(x.flatten(2), (10, 11), (2, 2), stride=(1, 3))),
    "unfold_windows": image(lambda x: F.unfold(x, 3, padding=1, stride=2)),
}


def _each_with_its_weight(x: Tensor, w: Tensor) -> Tensor:
    """Fused modulation: one group for each sample."""
    weights = w[None] * x.mean((2, 3))[:, None, :, None, None]
    out = F.conv2d(
        x.reshape(1, -1, *x.shape[2:]), weights.reshape(-1, *w.shape[1:]), padding=1, groups=x.shape[0]
    )
    return out.reshape(x.shape[0], -1, *out.shape[2:])


def _each_transposed(x: Tensor, w: Tensor) -> Tensor:
    weights = w[None] * x.mean((2, 3))[:, :, None, None, None]
    out = F.conv_transpose2d(
        x.reshape(1, -1, *x.shape[2:]),
        weights.reshape(-1, *w.shape[1:]),
        stride=2,
        padding=1,
        groups=x.shape[0],
    )
    return out.reshape(x.shape[0], -1, *out.shape[2:])


NORMALISATIONS = {
    "prelu": layer((4, 6, 6), lambda: nn.PReLU(4)),
    "batch_norm": layer((4, 6, 6), lambda: nn.BatchNorm2d(4).eval()),
    "batch_norm_1d": layer((8,), lambda: nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5)).eval()),
    "layer_norm": layer((5, 4), lambda: nn.LayerNorm(4)),
    "layer_norm_of_images": layer((4, 6, 6), lambda: nn.LayerNorm([4, 6, 6])),
    "layer_norm_without_weight": layer((5, 4), lambda: nn.LayerNorm(4, elementwise_affine=False)),
    "group_norm": layer((4, 6, 6), lambda: nn.GroupNorm(2, 4)),
    "instance_norm": layer((4, 6, 6), lambda: nn.InstanceNorm2d(4)),
    "instance_norm_affine": layer((4, 6, 6), lambda: nn.InstanceNorm2d(4, affine=True)),
    "rms_norm": layer((5, 4), lambda: nn.RMSNorm(4)),
    "pixel_norm": image(lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)),
    "adaptive": image(lambda x: F.instance_norm(x) * x[:, :, :1, :1] + x[:, :, 1:2, 1:2]),
    "conditional_weight": lambda: Lambda(
        (4,), lambda x, w: torch.cat([F.layer_norm(one[None] * w, (4,), one, one) for one in x]), (4,)
    ),
    "local_response": layer((4, 6, 6), lambda: nn.LocalResponseNorm(2)),
}

POOLINGS = {
    name: image(function)
    for name, function in {
        "nearest": lambda x: F.interpolate(x, scale_factor=2),
        "nearest_size": lambda x: F.interpolate(x, size=(9, 7)),
        "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        "bilinear_corners": lambda x: F.interpolate(x, size=(9, 7), mode="bilinear", align_corners=True),
        "bicubic": lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"),
        "antialiased": lambda x: F.interpolate(x, size=(3, 4), mode="bilinear", antialias=True),
        "nearest_1d": lambda x: F.interpolate(x[:, 0], scale_factor=2),
        "linear_1d": lambda x: F.interpolate(x[:, 0], scale_factor=2, mode="linear"),
        "nearest_exact": lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
        "nearest_exact_size": lambda x: F.interpolate(x, size=(9, 7), mode="nearest-exact"),
        "nearest_exact_1d": lambda x: F.interpolate(x[:, 0], size=9, mode="nearest-exact"),
        "nearest_exact_3d": lambda x: F.interpolate(x[:, None], scale_factor=1.5, mode="nearest-exact"),
        "nearest_3d": lambda x: F.interpolate(x[:, None], scale_factor=2),
        "average": lambda x: F.avg_pool2d(x, 3, 2, 1),
        "average_uncounted": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        "average_1d": lambda x: F.avg_pool1d(x[:, 0], 2),
        "adaptive_average": lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
        "adaptive_average_one": lambda x: F.adaptive_avg_pool2d(x, 1),
        "maximum": lambda x: F.max_pool2d(x, 2),
        "maximum_overlapping": lambda x: F.max_pool2d(x, 3, 1, 1),
        "adaptive_maximum": lambda x: F.adaptive_max_pool2d(x, (2, 3)),
        "maximum_1d": lambda x: F.max_pool1d(x[:, 0], 2),
        "grid_sample": lambda x: F.grid_sample(
            x, torch.tanh(x[:, :2].permute(0, 2, 3, 1)), align_corners=False
        ),
    }.items()
}

MODULES: dict[str, Callable[[], nn.Module]] = {
    f"{family}-{name}": make
    for family, table in {
        "pointwise": POINTWISE,
        "shape": SHAPES,
        "reduction": REDUCTIONS,
        "contraction": CONTRACTIONS,
        "convolution": CONVOLUTIONS,
        "normalisation": NORMALISATIONS,
        "pooling": POOLINGS,
    }.items()
    for name, make in table.items()
}
