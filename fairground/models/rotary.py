"""Rotary position embeddings and how each published scaling changes their frequencies."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fairground.models.config import Rotary, RotaryScaling


def frequencies(rotary: Rotary) -> Tensor:
    """Angle per position of each rotated pair: float32 [dim / 2]."""
    exponents = torch.arange(0, rotary.dim, 2, dtype=torch.int64).float() / rotary.dim
    plain = 1.0 / rotary.theta**exponents
    scaling = rotary.scaling
    if scaling is None or scaling.kind == "dynamic":
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    return _llama3(plain, scaling) if scaling.kind == "llama3" else _yarn(plain, rotary, scaling)


def _llama3(plain: Tensor, scaling: RotaryScaling) -> Tensor:
    """Llama 3.1's release (`apply_scaling`): long waves divided by the factor, short ones kept, a ramp between."""
    wavelength = 2 * math.pi / plain
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    ramp = (scaling.original_context / wavelength - low) / (high - low)
    mixed = (1 - ramp) * plain / scaling.factor + ramp * plain
    stretched = torch.where(wavelength > scaling.original_context / low, plain / scaling.factor, plain)
    between = (wavelength <= scaling.original_context / low) & (wavelength >= scaling.original_context / high)
    return torch.where(between, mixed, stretched)


def _yarn(plain: Tensor, rotary: Rotary, scaling: RotaryScaling) -> Tensor:
    """YaRN's NTK-by-parts (Peng et al., 2023, section 3.2): which pairs turn often enough to be left alone."""

    def pair_that_turns(rotations: float) -> float:
        return (rotary.dim * math.log(scaling.original_context / (rotations * 2 * math.pi))) / (
            2 * math.log(rotary.theta)
        )

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary.dim - 1)
    ramp = ((torch.arange(rotary.dim // 2).float() - low) / max(high - low, 0.001)).clamp(0, 1)
    return plain / scaling.factor * ramp + plain * (1 - ramp)


class RotaryTable:
    """Cosine and sine of every position so far asked for, computed in float32.

    Computed 4,096 positions at a time and looked up: torch's cosine gives other bits for the same angle at another
    place in a tensor, and a token's position must mean one thing in any company.
    """

    SPAN = 4096  # positions

    def __init__(self, rotary: Rotary, device: torch.device) -> None:
        self._rotary, self._device = rotary, device
        self._frequencies = frequencies(rotary)
        self._cos = self._sin = torch.zeros(0, rotary.dim, device=device)

    def __call__(self, positions_N: Tensor, last: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """For `rotate`: two of [N, 1, dim]. `last` is the greatest position."""
        while self._cos.shape[0] <= last:
            start = self._cos.shape[0]
            angles = torch.arange(start, start + self.SPAN)[:, None].float() * self._frequencies
            angles = angles.repeat_interleave(2, -1) if self._rotary.interleaved else torch.cat((angles, angles), -1)
            factor = self._rotary.scaling.attention_factor if self._rotary.scaling else 1.0
            self._cos = torch.cat((self._cos, (angles.cos() * factor).to(self._device)))
            self._sin = torch.cat((self._sin, (angles.sin() * factor).to(self._device)))
        return self._cos[positions_N, None].to(dtype), self._sin[positions_N, None].to(dtype)


def rotate(x_NHD: Tensor, cos: Tensor, sin: Tensor, rotary: Rotary) -> Tensor:
    """Turns the first `dim` entries of each head by its position's angle."""
    turned = x_NHD[..., : rotary.dim]
    if rotary.interleaved:
        other = torch.stack((-turned[..., 1::2], turned[..., ::2]), -1).flatten(-2)
    else:
        half = rotary.dim // 2
        other = torch.cat((-turned[..., half:], turned[..., :half]), -1)
    turned = turned * cos + other * sin
    return turned if rotary.dim == x_NHD.shape[-1] else torch.cat((turned, x_NHD[..., rotary.dim :]), -1)
