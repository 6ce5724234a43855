"""GCA-HNG: trains the encoder against negatives that a graph network over the batch makes harder."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.encoders.weights import fit_tensors
from pyg_bgformer.errors import InputError, check_range
from pyg_bgformer.geometry import Geometry, Sphere
from pyg_bgformer.losses.class_slots import class_slots
from pyg_bgformer.losses.n_pair import NPairLoss
from pyg_bgformer.losses.negative_synthesis import (
    diversity_penalty,
    pulled_share,
    similarity_penalty,
    synthesise_negatives,
)
from pyg_bgformer.methods.method import METHODS, Method, ParameterGroup, Update
from pyg_bgformer.nn.models.gca_hng import GCANetwork
from pyg_bgformer.nn.ops import Edges
from pyg_bgformer.nn.original import gca_from_original
from pyg_bgformer.ranges import NonNegativeFloat, PositiveInt, Probability

CLASSIFIER_WEIGHT = 10.0
"""Factor of the classifier's loss, as in the authors' code."""

SMALLEST_MEAN = 1e-6
"""Lower bound of an epoch's mean loss: the next epoch divides by it."""


@METHODS.register("gca_hng")
class GCAHNG(Method):
    r"""Globally correlation-aware hard negative generation, from the `"Globally Correlation-Aware Hard Negative
    Generation" <https://doi.org/10.1007/s11263-024-02288-0>`_ paper.

    The network computes channel weights for all pairs of a batch. With these each sample gets a harder negative of
    every other class (:func:`~pyg_bgformer.losses.negative_synthesis.synthesise_negatives`). A batch takes three
    steps, one after another:

    1. Encoder, loss and network minimise :math:`J_m + J_{syn} + J_{gce}`. :math:`J_m` is the loss on the samples,
       :math:`J_{syn}` the loss on the synthetic negatives times :math:`1 - e^{-\beta / \bar{J}_{gen}}`, and
       :math:`J_{gce}` the cross-entropy of the network's nodes. The channel weights get no gradient from
       :math:`J_{syn}`.
    2. A linear classifier minimises ten times its cross-entropy on the embeddings.
    3. The network minimises :math:`J_{gen} = \frac{1}{2} (w_s J_{gence} + w_{dot} J_{sim} + w_{div} J_{div})` on
       the embeddings of step 1. It gets smaller if the classifier recognises the synthetic negatives
       (:math:`J_{gence}`), if these resemble their anchors (:math:`J_{sim}`), and if the channel weights differ
       from pair to pair (:math:`J_{div}`).

    A factor :math:`g = e^{-\alpha / \bar{J}_m}` decides how close negatives are pulled to their anchors: the
    smaller it is, the closer. :math:`\bar{J}` are means over the previous epoch, and :math:`10^6` in the first.
    At test time the encoder is used alone.

    The paper's loss is ``n_pair``, on embeddings that are not normalised. *With any other loss this method is our
    extension, not the paper's*: the loss is computed on embeddings in the geometry's space, and :math:`J_{syn}` is
    the same loss on the synthetic negatives, as further samples of their classes.

    A batch must hold at least 2 classes, each with the same number of samples, at least 2, in any order. The
    channel weights are :math:`N^2 D` numbers. Each layer of the network stores a few times :math:`4 N^2 D` numbers
    for its gradients.

    Args:
        encoder (Encoder): See :class:`Method`. The paper's head begins with a BatchNorm (``head_norm``).
        loss (Module): See :class:`Method` and above.
        geometry (Geometry): See :class:`Method`.
        num_classes (int): See :class:`Method`.
        alpha (float): How close negatives are pulled to their anchors, at least 0. Larger is closer.
            (default: :obj:`5.`)
        beta (float): How soon the loss on synthetic negatives gets its full weight, at least 0. Larger is sooner.
            (default: :obj:`20.`)
        softmax_factor (float): Weight of the classification of synthetic negatives in the network's loss, at
            least 0. (default: :obj:`20.`)
        dot_weight (float): Weight of their similarity to their anchors, at least 0. (default: :obj:`20.`)
        div_weight (float): Weight of the diversity of channel weights, at least 0. (default: :obj:`60.`)
        num_layers (int): Number of layers of the network. (default: :obj:`2`)
        heads (int): Number of attention heads of the nodes. They must divide the size of the embeddings.
            (default: :obj:`4`)
        dropout (float): Probability of dropping a weight of the edges' attention, in [0, 1). (default: :obj:`0.1`)
        network_lr (float): Learning rate of the network. It falls to 0 by a cosine. (default: :obj:`1.5e-4`)
        classifier_lr (float): Learning rate of the classifier. It is constant. (default: :obj:`1e-3`)
        zero_filled (bool): Let momentum and weight decay also change parameters that the loss of a step does not
            depend on, as the authors' PyTorch version did. (default: :obj:`False`)
        official_mask (bool): In the similarity to anchors, leave out the classes that the authors' code leaves
            out, instead of each anchor's own class. (default: :obj:`False`)

    Raises:
        InputError: If an option is out of its range, or ``n_pair`` is used with another geometry than the sphere.
            In the forward pass: if the batch does not have such classes.
    """

    plain_mean: Tensor
    generator_mean: Tensor

    def __init__(
        self,
        encoder: Encoder,
        loss: nn.Module,
        geometry: Geometry,
        num_classes: int,
        *,
        alpha: NonNegativeFloat = 5.0,
        beta: NonNegativeFloat = 20.0,
        softmax_factor: NonNegativeFloat = 20.0,
        dot_weight: NonNegativeFloat = 20.0,
        div_weight: NonNegativeFloat = 60.0,
        num_layers: PositiveInt = 2,
        heads: PositiveInt = 4,
        dropout: Probability = 0.1,
        network_lr: NonNegativeFloat = 1.5e-4,
        classifier_lr: NonNegativeFloat = 1e-3,
        zero_filled: bool = False,
        official_mask: bool = False,
    ) -> None:
        super().__init__(encoder, loss, geometry, num_classes)
        if isinstance(loss, NPairLoss) and not isinstance(geometry, Sphere):
            raise InputError(f"loss n_pair compares inner products: use geometry sphere, found {geometry}")
        self.alpha = alpha
        self.beta = beta
        self.softmax_factor = softmax_factor
        self.dot_weight = dot_weight
        self.div_weight = div_weight
        for name in ("alpha", "beta", "softmax_factor", "dot_weight", "div_weight"):
            check_range(name, getattr(self, name), at_least=0)
        self.network_lr = network_lr
        self.classifier_lr = classifier_lr
        self.zero_filled = zero_filled
        self.official_mask = official_mask
        self.network = GCANetwork(encoder.embedding_dim, num_classes, num_layers, heads, dropout)
        self.classifier = nn.Linear(encoder.embedding_dim, num_classes)
        self.register_buffer("plain_mean", torch.tensor(1e6))
        self.register_buffer("generator_mean", torch.tensor(1e6))

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the ``loss`` of the first step and its terms ``plain``, ``synthetic`` and ``node``.

        It also returns ``channel_weight``, the mean channel weight of pairs of different classes, and ``hardness``,
        the share of negatives that are pulled.
        """
        return self._first_terms(self.encoder.head(features), labels)

    def updates(self, features: Tensor, labels: Tensor) -> Iterator[Update]:
        """Yields the three steps on a batch."""
        z = self.encoder.head(features)
        terms = self._first_terms(z, labels)
        yield Update(terms["loss"], terms, ("backbone", "head", "loss", "network"), self.zero_filled)
        z = z.detach()
        loss = CLASSIFIER_WEIGHT * F.cross_entropy(self.classifier(z).float(), labels)
        yield Update(loss, {"classifier": loss}, ("classifier",), self.zero_filled)
        terms = self._generator_terms(z, labels)
        yield Update(terms["generator"], terms, ("network",), self.zero_filled)

    def edges(self, features: Tensor, labels: Tensor) -> Edges:
        """Returns the attention between nodes of different classes: ``layers.0.attention`` and so on."""
        _, edges = self.network(self.encoder.head(features), labels, return_attention_weights=True)
        return edges

    def close_epoch(self, means: dict[str, float]) -> None:
        """Stores the means that decide how close and with which weight the next epoch uses synthetic negatives."""
        self.plain_mean.fill_(max(means["plain"], SMALLEST_MEAN))
        self.generator_mean.fill_(max(means["generator"], SMALLEST_MEAN))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns the groups of :class:`Method` and the groups ``network`` and ``classifier``."""
        network: ParameterGroup = {
            "name": "network",
            "params": list(self.network.parameters()),
            "lr": self.network_lr,
            "weight_decay": 1e-4,
            "schedule": "cosine",
        }
        classifier: ParameterGroup = {
            "name": "classifier",
            "params": list(self.classifier.parameters()),
            "lr": self.classifier_lr,
            "weight_decay": 0.01,
            "schedule": "constant",
        }
        return [*super().parameter_groups(), network, classifier]

    def draws(self, slots: Tensor) -> Tensor:
        """Returns random numbers ``(K, K - 1)`` in [0, 1), which merge the candidates of each negative.

        They are drawn on the CPU, so a seed gives the same numbers on every device.
        """
        return torch.rand(slots.size(0), slots.size(0) - 1).to(slots.device)

    def _first_terms(self, z: Tensor, labels: Tensor) -> dict[str, Tensor]:
        slots = _slots(labels)
        logits, weights = self.network(z, labels)
        negatives = self._negatives(z, weights.detach(), slots)
        plain, synthetic = self._base_losses(z, negatives, labels, slots)
        terms = {
            "plain": plain,
            "synthetic": -torch.expm1(-self.beta / self.generator_mean) * synthetic,
            "node": F.cross_entropy(logits.float(), labels),
        }
        between = labels[:, None] != labels[None, :]
        insight = {
            "channel_weight": weights.detach().float().mean(dim=-1)[between].mean(),
            "hardness": pulled_share(z, slots),
        }
        return {"loss": terms["plain"] + terms["synthetic"] + terms["node"], **terms, **insight}

    def _generator_terms(self, z: Tensor, labels: Tensor) -> dict[str, Tensor]:
        slots = _slots(labels)
        weights = self.network(z, labels)[1]
        negatives = self._negatives(z, weights, slots)
        classes = labels[slots[0]].expand(negatives.shape[:-1]).flatten()
        made_class = F.cross_entropy(self.classifier(negatives).float().flatten(0, 2), classes)
        similarity = similarity_penalty(z, negatives, slots, self.official_mask)
        diversity = diversity_penalty(weights)
        loss = self.softmax_factor * made_class + self.dot_weight * similarity + self.div_weight * diversity
        return {
            "generator": 0.5 * loss,
            "made_class": made_class,
            "similarity": similarity,
            "diversity": diversity,
        }

    def _negatives(self, z: Tensor, weights: Tensor, slots: Tensor) -> Tensor:
        pull = torch.exp(-self.alpha / self.plain_mean)
        return synthesise_negatives(z, weights, slots, self.draws(slots), pull)

    def _base_losses(
        self, z: Tensor, negatives: Tensor, labels: Tensor, slots: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the loss on the samples and the loss on the negatives made for them."""
        if isinstance(self.loss, NPairLoss):
            return self.loss(z, labels), self.loss.synthetic(z, negatives, labels)
        classes = labels[slots[0]].expand(negatives.shape[:-1])  # (K, C, C): of the made negatives
        others = classes != classes.transpose(1, 2)
        made = self.loss(self.geometry.project(negatives[others]), classes[others])
        return self.loss(self.geometry.project(z), labels), made

    @classmethod
    def from_original(
        cls, state_dict: Mapping[str, Tensor], encoder: Encoder, *, heads: int, **options: Any
    ) -> "GCAHNG":
        """Returns the method that a checkpoint of the authors' full model describes, with its weights.

        The network is read from the keys ``gnn.*``, the classifier from ``softmax_classifier.*``, and the encoder
        from ``feature_extractor.backbone.*`` and ``feature_extractor.fc.{0,1}.*``. A checkpoint names neither the
        architecture of the backbone nor the number of heads.

        Args:
            state_dict: The checkpoint.
            encoder: An encoder with the checkpoint's backbone and with ``head_norm``. Its weights are replaced.
            heads: Number of attention heads of the network.
            **options: All other options of the method.

        Raises:
            InputError: If keys or shapes do not fit.
        """
        network = gca_from_original(state_dict, heads=heads, dropout=options.get("dropout", 0.1))
        options |= {"num_layers": len(network.layers), "heads": heads}
        num_classes = network.classifier.out_features
        method = cls(encoder, NPairLoss(), Sphere(), num_classes, **options)
        method.network = network
        parts = {
            "feature_extractor.backbone.": encoder.backbone.net,
            "feature_extractor.fc.": encoder.head,
            "softmax_classifier.": method.classifier,
        }
        for prefix, part in parts.items():
            tensors = {
                key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)
            }
            fit_tensors(part, tensors, source=prefix, ignored=encoder.backbone.head_prefixes)
        return method


def _slots(labels: Tensor) -> Tensor:
    slots = class_slots(labels, "GCA-HNG")
    if slots.size(1) < 2:
        raise InputError("GCA-HNG makes negatives of other classes: found a batch of a single class")
    return slots
