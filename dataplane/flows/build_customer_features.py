"""The flow that makes the dataset `customer_features`: the order of its steps, nothing else."""

from __future__ import annotations

from dataplane.catalogue import CUSTOMER_FEATURES, NoParameters
from dataplane.contents.features import Features
from dataplane.flows.producing import produces
from dataplane.flows.shop import checked, compute, read_shop, remember


@produces(CUSTOMER_FEATURES)
def build_customer_features(parameters: NoParameters) -> Features:
    """Read the shop's orders and refunds, check them, and compute what each customer's features were when."""
    return remember(CUSTOMER_FEATURES.name, compute(checked(read_shop())))
