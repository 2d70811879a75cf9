"""Derivatives of ATen operators as linear stages, one file for each family."""

import torch

from polarity_sampling.jacobian.rules import (  # noqa: F401 (they declare their rules)
    arithmetic,
    attention,
    border,
    contraction,
    convolution,
    gate,
    indexing,
    normalisation,
    pooling,
    reduction,
    shape,
)
from polarity_sampling.jacobian.rules.fallback import Fallback
from polarity_sampling.jacobian.rules.pointwise import pointwise_stage
from polarity_sampling.jacobian.stage import Call, Stage, rule_for


def stage_of(call: Call) -> Stage:
    """The stage of a call: by its rule, by the rule of all pointwise operators, or by torch.func."""
    rule = rule_for(call.op)
    stage = rule(call) if rule is not None else None
    if stage is None and torch.Tag.pointwise in call.op.tags:
        stage = pointwise_stage(call)
    return Fallback(call) if stage is None else stage
